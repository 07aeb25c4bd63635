"""Before a stage: what is not exact goes one by one; what mixes rows is refused by name."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests.clipping import (
    PLAYER,
    Of,
    batch_of,
    books_for,
    check,
    kept,
    parameter,
    rowwise,
)
from torch import nn
from torch.nn import functional

from assay.errors import UsageError
from assay.training.batches import to_units
from assay.training.bookkeeping.check import check as held_against_rows
from assay.training.bookkeeping.engine import BookKeeping, Clip

Tensor = torch.Tensor


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# -- the check before a stage ---------------------------------------------------------------------


class Secret(torch.autograd.Function):
    """A product that no operation of torch tells of."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return grads[0] @ weight, grads[0].T @ x


secret: Any = Secret.apply


def test_a_function_of_the_user_that_reads_a_parameter_is_found() -> None:
    network = Of(
        lambda s, x: secret(s.first(x), s.hidden),
        first=nn.Linear(3, 3),
        hidden=parameter(2, 3),
    )
    books, inputs = books_for({PLAYER: network}, Clip(1.0)), {"x": torch.randn(5, 3)}
    odd = held_against_rows(books, network, inputs)
    assert odd == {"model:hidden"}
    check(network, inputs, odd=odd)
    with pytest.raises(UsageError, match="model:hidden is used by something that cannot be seen"):
        kept({PLAYER: network}, batch_of(inputs), Clip(1.0), books=books)


class Sequence(nn.Module):
    """Computes on positions first, rows second."""

    def __init__(self, flat: bool) -> None:
        super().__init__()
        self.tokens, self.layer, self.norm = nn.Embedding(6, 4), nn.Linear(4, 4), nn.LayerNorm(4)
        self.flat = flat

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.tokens(x).transpose(0, 1)
        if self.flat:
            flat: Tensor = self.layer(hidden.flatten(0, 1)).tanh()
            return flat.view(hidden.shape).transpose(0, 1)
        out: Tensor = self.norm(self.layer(hidden)).transpose(0, 1)
        return out


def test_positions_before_rows_are_exact_even_where_there_are_as_many() -> None:
    network = Sequence(flat=False)
    odd = held_against_rows(
        books_for({PLAYER: network}, Clip(1.0)), network, {"x": torch.randint(0, 6, (3, 4))}
    )
    assert "model:layer.weight" in odd
    for rows, positions in ((4, 4), (5, 4), (1, 4)):
        check(network, {"x": torch.randint(0, 6, (rows, positions))}, odd=odd)


class Centred(nn.Module):
    """Takes the mean of the batch away."""

    def __init__(self, only_training: bool) -> None:
        super().__init__()
        self.only_training = only_training

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0) if self.training or not self.only_training else x


class Gated(nn.Module):
    """A mixing branch that is closed when training begins."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.gate = Centred(False), nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.gate * self.mix(x)
        return out


def between(module: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), module, nn.Linear(4, 2))


MIXING: dict[str, tuple[nn.Module, str]] = {
    "mean of the batch": (between(Centred(False)), "module 1:"),
    "mean in training only": (between(Centred(True)), "module 1:"),
    "behind a closed gate": (between(Gated()), "module 1.mix:"),
    "batch norm": (between(nn.BatchNorm1d(4)), "module 1:"),
    "positions flattened before rows": (Sequence(flat=True), "module "),
}


@pytest.mark.parametrize("name", MIXING)
def test_rows_that_mix_are_refused_with_the_modules_path(name: str) -> None:
    network, where = MIXING[name]
    rows = torch.randint(0, 6, (3, 4)) if isinstance(network, Sequence) else torch.randn(3, 3)
    inputs = {"x" if isinstance(network, Sequence) else "input": rows}
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(UsageError) as caught:
        held_against_rows(books_for({PLAYER: network}, Clip(1.0)), network, inputs)
    assert where in str(caught.value)
    after = network.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert network.training


def test_statistics_of_rows_in_buffers_are_refused() -> None:
    network = nn.Sequential(
        nn.Conv1d(1, 4, 3), nn.InstanceNorm1d(4, affine=True, track_running_stats=True)
    )
    inputs = {"input": torch.randn(3, 1, 8)}
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(UsageError, match=r"module 1: .*track_running_stats=False"):
        held_against_rows(books_for({PLAYER: network}, Clip(1.0)), network, inputs)
    after = network.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_chance_in_training_is_no_mixing() -> None:
    encoder = nn.TransformerEncoderLayer(2, 1, 3, dropout=0.3, batch_first=True)
    network = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2), encoder)
    inputs = {"input": torch.randn(3, 5, 3)}
    assert held_against_rows(books_for({PLAYER: network}, Clip(1.0)), network, inputs) == {
        f"model:3.self_attn.{name}"
        for name in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    }


@pytest.mark.parametrize("seed", range(5))
def test_rare_chance_is_no_mixing_either(seed: int) -> None:
    """Stochastic depth leaves a branch out, here seldom: two passes may well be alike."""

    def forward(self: Any, x: Tensor) -> Tensor:
        kept = torch.rand(len(x), 1) >= 0.1 if self.training else torch.ones(len(x), 1)
        out: Tensor = self.first(x) + kept * self.branch(x)
        return out

    torch.manual_seed(seed)
    network = Of(forward, first=nn.Linear(3, 3), branch=nn.Linear(3, 3))
    state = torch.get_rng_state()
    books = books_for({PLAYER: network}, Clip(1.0))
    assert not held_against_rows(books, network, {"x": torch.ones(3, 3)})
    assert torch.equal(state, torch.get_rng_state())


def test_a_use_that_was_not_checked_is_refused() -> None:
    network = Of(
        lambda s, x: functional.bilinear(x, x, s.cube) if len(x) > 3 else x @ s.cube[0],
        cube=parameter(2, 3, 3),
    )
    books: BookKeeping = books_for({PLAYER: network}, Clip(1.0))
    batch = batch_of({"x": torch.randn(4, 3)})
    with books.watching(batch):
        losses = to_units(rowwise(network(**batch.inputs)), batch.units, 4)
    with pytest.raises(UsageError, match="model:cube is used by 'bilinear' in training"):
        books.backward({PLAYER: losses}, 4, {})
