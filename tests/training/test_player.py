"""A player: rates by name and depth, a state that is all there is, weights shown and kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.tiny import Bench
from torch import nn

from assay.config import build_part
from assay.models.model import Model
from assay.training.player import Player


def player(model: Model, *step: dict[str, Any]) -> Player:
    names = [n for n, _ in model.network.named_parameters()]
    parts = tuple(build_part("step", part) for part in step)
    made = Player("model", model.network, names, parts, model.support(), model.blocks())
    made.attach(channels_last=False)
    return made


def rates(made: Player, network: nn.Module) -> dict[str, tuple[float, bool]]:
    """Name -> (factor on the rate, whether it decays), read off the segments."""
    place = {}
    for segment in made.flat.segments:
        made.flat.params[0, segment.start : segment.stop] = segment.rate + 100 * segment.decays
    for name, parameter in network.named_parameters():
        (value,) = set(parameter.detach().flatten().tolist())
        place[name] = (round(value % 100, 6), value >= 100)
    return place


def test_lower_blocks_learn_more_slowly(text: Bench) -> None:
    model = text.model.copy()
    settings = {"lr": 0.1, "weight_decay": 0.1, "layer_decay": 0.5, "rates": {"head.bias": 3}}
    found = rates(player(model, {"adamw": settings}), model.network)
    block = "backbone.encoder.layer.{}.output.dense.{}"
    assert found["head.weight"] == (1.0, True)
    assert found["head.bias"] == (3.0, False)
    assert found[block.format(1, "weight")] == (0.5, True)
    assert found[block.format(0, "weight")] == (0.25, True)
    assert found[block.format(0, "bias")] == (0.25, False)
    assert found["backbone.embeddings.word_embeddings.weight"] == (0.125, True)
    assert found["backbone.embeddings.LayerNorm.weight"] == (0.125, False)


def test_the_last_rate_that_fits_wins(table: Bench) -> None:
    model = table.model.copy()
    settings = {"lr": 0.1, "rates": {"*.weight": 2, "head.*": 5}}
    found = rates(player(model, {"sgd": settings}), model.network)
    assert found["head.weight"][0] == found["head.bias"][0] == 5.0
    assert found["backbone.layers.0.0.weight"][0] == 2.0
    assert found["backbone.layers.0.0.bias"][0] == 1.0


def run(made: Player, steps: range) -> torch.Tensor:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        made.flat.grads.copy_(torch.randn(made.flat.grads.shape, generator=generator))
        made.update(step, 10)
        made.observe(1.0)
    return made.final().clone()


STEP = ({"adamw": 0.01}, {"plateau": {"patience": 1}}, {"clip_norm": 1.0}, {"ema": 0.9})


def test_the_state_is_all_there_is(table: Bench) -> None:
    whole = run(player(table.model.copy(), *STEP), range(8))
    first, second = player(table.model.copy(), *STEP), player(table.model.copy(), *STEP)
    run(first, range(5))
    tensors, plain = first.state()
    tensors, plain = {n: t.clone() for n, t in tensors.items()}, {**plain}
    plain["schedule"] = dict(plain["schedule"])
    run(first, range(5, 6))
    second.restore(tensors, plain)
    assert torch.equal(run(second, range(5, 8)), whole)
    first.restore(tensors, plain)  # into one that has gone on
    assert torch.equal(run(first, range(5, 8)), whole)


def test_final_weights_are_shown_and_taken_back(table: Bench) -> None:
    model = table.model.copy()
    made = player(model, *STEP)
    run(made, range(4))
    current, final = made.flat.params.clone(), made.final().clone()
    assert not torch.equal(current, final)
    with made.showing_final():
        assert torch.equal(made.flat.params, final)
        assert model.network.get_parameter("head.bias").detach().tolist() in _pieces(final)
    assert torch.equal(made.flat.params, current)
    kept = made.kept()
    run(made, range(4, 6))
    made.keep(kept)
    made.detach()
    shown = torch.cat([p.detach().flatten() for p in model.network.parameters()]).sort().values
    assert torch.equal(shown, final.flatten().sort().values)


def _pieces(values: torch.Tensor) -> list[list[float]]:
    flat = values.flatten()
    return [flat[i : i + 2].tolist() for i in range(len(flat) - 1)]


@pytest.mark.parametrize("optimiser", [{"adamw": 0.1}, {"sgd": {"lr": 0.1, "momentum": 0.9}}])
def test_masked_weights_stay_zero_whatever_moves_them(
    optimiser: dict[str, Any], table: Bench
) -> None:
    from assay.models.structures.mask import mask_model

    keep = torch.rand(2, 5, generator=torch.Generator().manual_seed(0)) > 0.5
    model = mask_model(table.model, {"head.weight": keep})
    made = player(model, optimiser, {"ema": 0.5})
    run(made, range(5))
    made.detach()
    weight = model.network.get_parameter("head.weight")
    assert torch.equal(weight != 0, keep)
