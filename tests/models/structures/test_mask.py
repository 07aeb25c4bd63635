"""Masks are buffers beside their parameters, and say where weights may be non-zero."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from assay.claims import ModelCard
from assay.config import build_part
from assay.errors import UsageError
from assay.models.load import assemble
from assay.models.model import Model
from assay.models.structures.mask import Mask, apply_masks, mask_model, without_names


def model() -> Model:
    torch.manual_seed(0)
    architecture = build_part("architecture", {"mlp": {"inputs": 4, "hidden": [3]}})
    head = build_part("structure", {"head": {"outputs": 2, "width": 3}})
    return Model(
        network=head.apply(architecture.build()),
        architecture=architecture,
        structures=(head,),
        task=None,
        preprocessing=None,  # type: ignore[arg-type]
        classes=("a", "b"),
        card=ModelCard(name="mlp"),
    )


FIRST = "backbone.layers.0.0.weight"
HALF = torch.arange(12).reshape(3, 4) % 2 == 0


def test_masks_begin_as_ones_and_change_no_weight() -> None:
    network = model().network
    before = {n: p.clone() for n, p in network.named_parameters()}
    mask = Mask(names=(FIRST, "head.bias"))
    assert mask.apply(network) is network
    support = mask.support(network)
    assert {n: (m.dtype, tuple(m.shape), bool(m.all())) for n, m in support.items()} == {
        FIRST: (torch.bool, (3, 4), True),
        "head.bias": (torch.bool, (2,), True),
    }
    assert "head.bias__mask" in network.state_dict()
    assert all(torch.equal(p, before[n]) for n, p in network.named_parameters())


def test_globs_name_parameters() -> None:
    network = Mask(names=("*.weight",)).apply(model().network)
    assert set(Mask(names=("*.weight",)).support(network)) == {FIRST, "head.weight"}


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"no parameter 'head\.wieght'; did you mean 'head\.weight'"
    ):
        Mask(names=("head.wieght",)).apply(model().network)


def test_it_works_on_the_meta_device_and_moves_with_the_state() -> None:
    masked = mask_model(model(), {FIRST: HALF})
    with torch.device("meta"):
        meta = assemble(masked.architecture, masked.structures)
    assert meta.get_buffer(FIRST + "__mask").is_meta
    again = assemble(masked.architecture, masked.structures)
    again.load_state_dict(masked.network.state_dict())
    assert torch.equal(masked.structures[-1].support(again)[FIRST], HALF)


def test_apply_masks_zeroes_even_what_is_no_number() -> None:
    network: Any = nn.Sequential(nn.Linear(4, 3))
    Mask(names=("0.weight",)).apply(network)
    network.get_buffer("0.weight__mask").copy_(HALF)
    with torch.no_grad():
        network[0].weight.fill_(float("nan"))
    apply_masks(network)
    assert torch.equal(network[0].weight == 0, ~HALF)
    assert bool(network[0].weight[HALF].isnan().all())


def test_mask_model_zeroes_a_copy() -> None:
    plain = model()
    before = plain.network.get_parameter(FIRST).clone()
    masked = mask_model(plain, {FIRST: HALF})
    weight = masked.network.get_parameter(FIRST)
    assert torch.equal(weight, before * HALF)
    assert torch.equal(plain.network.get_parameter(FIRST), before)
    assert [s.part_name for s in masked.structures] == ["head", "mask"]
    assert torch.equal(masked.support()[FIRST], HALF)


def test_a_second_mask_adds_to_the_first() -> None:
    rows = torch.tensor([True, False, True])[:, None].expand(3, 4)
    masked = mask_model(mask_model(model(), {FIRST: HALF}), {FIRST: rows})
    assert torch.equal(masked.support()[FIRST], HALF & rows)
    assert torch.equal(masked.network.get_parameter(FIRST) != 0, HALF & rows)


def test_a_mask_of_another_shape_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"expected \(3, 4\), got \(4, 3\)"):
        mask_model(model(), {FIRST: HALF.T})


def test_a_tied_parameter_has_one_mask() -> None:
    network: Any = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    network[1].weight = network[0].weight
    Mask(names=("*.weight",)).apply(network)
    assert [n for n, _ in network.named_buffers()] == ["0.weight__mask"]


def test_without_names_keeps_the_rest() -> None:
    network = Mask().apply(model().network)
    kept = without_names([Mask()], {FIRST}, network)
    assert kept == (Mask(names=("head.weight",)),)
    assert without_names([Mask(names=(FIRST,))], {FIRST}, network) == ()
