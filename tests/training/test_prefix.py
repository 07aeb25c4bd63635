"""The frozen prefix is found, replays exactly, and is refused where something flows around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from assay.models.architectures.transformer import Bert
from assay.models.headed import Headed
from assay.training.prefix import Cache, fill, find_prefix


@pytest.fixture
def bert() -> nn.Module:
    torch.manual_seed(0)
    trunk = Bert(
        hidden_size=16, layers=3, heads=2, intermediate_size=32, vocab_size=50, max_positions=32
    )
    return Headed(trunk.build(), "mean", 16, 3, 0.1)


def inputs(n: int, length: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(1, 50, (n, length), generator=torch.Generator().manual_seed(n))
    mask = torch.ones_like(ids)
    mask[0, length // 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


SAMPLES = [inputs(3, 8), inputs(2, 12)]


@pytest.mark.parametrize(
    ("moves", "cut"),
    [
        (("head.",), "pool"),
        (("head.", "layer.2."), "backbone.encoder.layer.1"),
        (("head.", "layer.1.", "layer.2."), "backbone.encoder.layer.0"),
        (("layer.1.attention.self.value",), "backbone.encoder.layer.0"),
        (("head.", "layer."), "backbone.embeddings"),
    ],
)
def test_the_cut_is_the_latest_that_replays(
    bert: nn.Module, moves: tuple[str, ...], cut: str
) -> None:
    moving = {n for n, _ in bert.named_parameters() if any(m in n for m in moves)}
    prefix = find_prefix(bert, moving, SAMPLES)
    assert prefix is not None
    assert prefix.cut == cut


def test_nothing_is_frozen_where_everything_moves(bert: nn.Module) -> None:
    assert find_prefix(bert, {n for n, _ in bert.named_parameters()}, SAMPLES) is None


class Around(nn.Module):
    """The input flows around `first`, so no cut inside is exact."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.second(self.first(x) + x)
        return result


class Twice(nn.Module):
    """A module that runs twice has no one output to cache."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.second(self.first(self.first(x)))
        return result


def test_a_module_that_runs_twice_is_no_cut() -> None:
    samples = [{"x": torch.randn(3, 4)}, {"x": torch.randn(2, 4)}]
    assert find_prefix(Twice(), {"second.weight"}, samples) is None


def test_inputs_that_flow_around_the_cut_are_still_given() -> None:
    samples = [{"x": torch.randn(3, 4)}, {"x": torch.randn(2, 4)}]
    network = Around()
    prefix = find_prefix(network, {"second.weight"}, samples)
    assert prefix is not None
    x = torch.randn(5, 4)
    wanted, value = network(x=x), prefix.run({"x": x})
    with prefix.skipping():
        prefix.feed(value)
        torch.testing.assert_close(network(x=x), wanted)


def test_skipping_leaves_no_trace(bert: nn.Module) -> None:
    prefix = find_prefix(bert, {"head.weight"}, SAMPLES)
    assert prefix is not None
    before = bert.eval()(**SAMPLES[0])
    with prefix.skipping():
        pass
    assert all("forward" not in m.__dict__ for m in bert.modules())
    torch.testing.assert_close(bert(**SAMPLES[0]), before, rtol=0, atol=0)


@pytest.mark.parametrize("in_file", [False, True])
def test_fed_from_the_cache_the_network_gives_the_same_outputs(
    bert: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_file: bool
) -> None:
    if in_file:
        monkeypatch.setattr("assay.training.prefix.IN_MEMORY", 0)
    bert.eval()
    lengths = np.array([3, 9, 5, 1, 7])
    rows = [torch.arange(1, n + 1) for n in lengths]

    def collate(which: torch.Tensor) -> dict[str, torch.Tensor]:
        longest = int(lengths[which.numpy()].max())
        ids = torch.zeros(len(which), longest, dtype=torch.long)
        for i, row in enumerate(which.tolist()):
            ids[i, : lengths[row]] = rows[row]
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}

    moving = {n for n, _ in bert.named_parameters() if "layer.2." in n or n.startswith("head")}
    prefix = find_prefix(bert, moving, SAMPLES)
    assert prefix is not None
    cache = fill(prefix, collate, lengths, 5, tmp_path, batch=2)
    which = torch.tensor([4, 0, 1])
    given = collate(which)
    with torch.no_grad():
        wanted = bert(**given)
        with prefix.skipping():
            prefix.feed(cache.get(which, given["input_ids"].shape[1]))
            got = bert(**given)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)
    assert list(tmp_path.iterdir()) == [], (
        "a cache file must have no name that outlives the process"
    )
    cache.close()


def test_a_cache_of_vectors_gives_rows_back() -> None:
    cache = Cache(None, 4, (3,), torch.float32, None)
    values: Any = torch.arange(12.0).view(4, 3)
    cache.put(torch.tensor([2, 0, 1, 3]), values[[2, 0, 1, 3]])
    torch.testing.assert_close(cache.get(torch.tensor([3, 1])), values[[3, 1]])
