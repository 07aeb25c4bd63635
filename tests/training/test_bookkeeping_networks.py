"""Clipped sums equal a loop over units for whole networks, also where a gradient is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.clipping import (
    PLAYER,
    Inputs,
    Networks,
    Of,
    assert_equal,
    batch_of,
    books_for,
    check,
    kept,
    looped,
    parameter,
)
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from assay.errors import UsageError
from assay.models.structures._lora import attach
from assay.training.bookkeeping.check import check as held_against_rows
from assay.training.bookkeeping.engine import Clip

Tensor = torch.Tensor
TWO_EACH = torch.tensor([0, 0, 1, 1, 2, 2])


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# -- networks that a library of hooks fails on ----------------------------------------------------


def lora(**more: Any) -> nn.Module:
    layer = attach(nn.Linear(3, 4), 2, 4.0, 0.0)
    nn.init.normal_(layer.lora_B)
    for name in ("weight", "bias"):
        layer.get_parameter(name).requires_grad_(bool(more))
    return nn.Sequential(nn.Linear(3, 3), nn.Tanh(), layer)


def dora(self: Any, x: Tensor) -> Tensor:
    weight = self.base + self.b @ self.a
    weight = weight * (self.size / weight.norm(dim=1, keepdim=True))
    out: Tensor = functional.linear(x, weight, self.bias)
    return out


def prompt(self: Any, x: Tensor) -> Tensor:
    """Learnt tokens before those of the text, as prompt tuning has them."""
    tokens = torch.cat([self.prompt.expand(len(x), -1, -1), self.tokens(x)], 1)
    hidden: Tensor = self.layer(tokens)
    return hidden[:, 0]


def scaled(self: Any, x: Tensor) -> Tensor:
    hidden: Tensor = self.below(x) * self.row
    out: Tensor = hidden.relu_() @ self.square
    return out


def checkpointed(self: Any, x: Tensor) -> Tensor:
    hidden: Any = x
    for block in self.blocks:
        hidden = checkpoint(block, hidden, use_reentrant=False)
    return hidden  # type: ignore[no-any-return]


def blocks() -> nn.ModuleList:
    return nn.ModuleList(
        nn.Sequential(nn.Linear(3, 5), nn.ReLU(inplace=True), nn.Linear(5, 3), nn.LayerNorm(3))
        for _ in range(2)
    )


def numbers(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(6, *shape)


def encoder(**more: Any) -> nn.Module:
    return nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True, **more)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "lstm": (
        lambda: Of(lambda s, x: s.lstm(x)[0], lstm=nn.LSTM(3, 4, 2, batch_first=True)),
        numbers(5, 3),
    ),
    "gru": (
        lambda: Of(lambda s, x: s.gru(x)[1][0], gru=nn.GRU(3, 4, batch_first=True)),
        numbers(5, 3),
    ),
    "multihead attention": (
        lambda: Of(
            lambda s, x: s.mha(x, x, x)[0], mha=nn.MultiheadAttention(4, 2, batch_first=True)
        ),
        numbers(5, 4),
    ),
    "transformer layer": (encoder, numbers(5, 4)),
    "transformer layer, norm first": (lambda: encoder(norm_first=True), numbers(5, 4)),
    "lora": (lora, numbers(3)),
    "lora and its weights": (lambda: lora(whole=True), numbers(5, 3)),
    "dora": (
        lambda: Of(
            dora,
            base=parameter(4, 3),
            a=parameter(2, 3),
            b=parameter(4, 2),
            size=parameter(4, 1),
            bias=parameter(4),
        ),
        numbers(3),
    ),
    "ia3": (
        lambda: Of(scaled, below=nn.Linear(3, 3), row=parameter(3), square=parameter(3, 3)),
        numbers(5, 3),
    ),
    "prompt": (
        lambda: Of(prompt, prompt=parameter(1, 2, 4), tokens=nn.Embedding(6, 4), layer=encoder()),
        lambda: torch.randint(0, 6, (6, 5)),
    ),
    "weight norm": (
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2)
        ),
        numbers(3),
    ),
    "weight standardisation": (
        lambda: Of(
            lambda s, x: functional.conv2d(
                x, s.conv.weight - s.conv.weight.mean((1, 2, 3), keepdim=True), s.conv.bias
            ),
            conv=nn.Conv2d(2, 3, 2),
        ),
        numbers(2, 4, 4),
    ),
    "checkpoint": (lambda: Of(checkpointed, blocks=blocks()), numbers(5, 3)),
    "transposed weight": (
        lambda: Of(lambda s, x: x @ s.layer.weight.T + s.layer.bias, layer=nn.Linear(3, 4)),
        numbers(3),
    ),
    "embedding bag": (lambda: nn.EmbeddingBag(6, 3), lambda: torch.randint(0, 6, (6, 4))),
}


def name_of_input(network: nn.Module, x: Tensor) -> Inputs:
    kinds = {nn.TransformerEncoderLayer: "src", Of: "x"}
    return {kinds.get(type(network), "input"): x}


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str, grouped: bool) -> None:
    make, data = NETWORKS[name]
    network, x = make(), data()
    inputs = name_of_input(network, x)
    books = books_for({PLAYER: network}, Clip(1.0))
    odd = held_against_rows(books, network, inputs)  # which a stage does before it begins
    check(network, inputs, TWO_EACH if grouped else None, odd=odd)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_a_reentrant_checkpoint_is_refused_with_the_way_out() -> None:
    layer = nn.Linear(3, 3)
    network = Of(
        lambda s, x: checkpoint(s.layer, s.first(x), use_reentrant=True),
        layer=layer,
        first=nn.Linear(3, 3),
    )
    books = books_for({PLAYER: network}, Clip(1.0))
    with pytest.raises(UsageError, match="use_reentrant=False"):
        held_against_rows(books, network, {"x": torch.randn(3, 3)})


def test_masked_parameters_are_bounded_by_what_may_move() -> None:
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    support = {
        "model:0.weight": torch.rand(5, 4) < 0.5,
        "model:2.weight": torch.zeros(2, 5, dtype=torch.bool),
    }
    networks, batch = {PLAYER: network}, batch_of({"input": torch.randn(6, 4)}, TWO_EACH)
    for clip in (Clip(0.5), Clip(0.5, automatic=True)):
        want, norms = looped(networks, batch, clip, support=support)
        books = books_for(networks, clip, support=support)
        got = kept(networks, batch, clip, books=books)
        for name, mask in support.items():  # the loop masks the sum, as every gradient
            got[name] *= mask
        assert_equal(got, want)
        torch.testing.assert_close(books.norms[PLAYER].double(), norms[PLAYER])


# -- gradients that are none ----------------------------------------------------------------------


def root(self: Any, x: Tensor) -> Tensor:
    """Its slope at nought is infinite."""
    hidden: Tensor = self.norm(self.first(x).square().sqrt() * self.row + self.row)
    return hidden


@pytest.mark.parametrize("infinite", ["slope", "input"])
def test_a_unit_with_an_infinite_gradient_takes_no_part(infinite: str) -> None:
    x = torch.randn(5, 3)
    if infinite == "slope":
        x[2] = 0.0
        network: nn.Module = Of(
            root, first=nn.Linear(3, 3, bias=False), norm=nn.LayerNorm(3), row=parameter(3)
        )
    else:
        x[2] = torch.inf
        network = Of(
            lambda s, x: s.last(s.norm(s.first(x).tanh())),
            first=nn.Linear(3, 3),
            norm=nn.RMSNorm(3, eps=1e-3),
            last=nn.Linear(3, 2),
        )
        with torch.no_grad():
            network.get_parameter("first.weight").abs_()
    _, norms = looped({PLAYER: network}, batch_of({"x": x}), Clip(1.0))
    assert torch.isfinite(norms[PLAYER]).tolist() == [True, True, False, True, True]
    assert not check(network, {"x": x})


def test_where_units_go_one_by_one_an_infinite_gradient_stops_the_step() -> None:
    x = torch.randn(4, 3)
    x[2] = torch.inf
    network = Of(lambda s, x: functional.bilinear(x, x, s.cube).tanh(), cube=parameter(2, 3, 3))
    with torch.no_grad():
        network.get_parameter("cube").abs_()
    with pytest.raises(UsageError, match="not finite"):
        check(network, {"x": x})


@pytest.mark.parametrize("positions", [False, True])
def test_a_norm_is_not_lost_in_the_rounding_of_terms_that_cancel(positions: bool) -> None:
    """Inner products of float32 give 0 here, and the whole gradient would pass the bound."""
    network = nn.Linear(2, 1, bias=False)
    x = torch.tensor([[1e5, 2e5], [1e5, 2e5 + 7]])
    sign = torch.tensor([[1.0], [-1.0]])
    rows = {"input": x[None] if positions else x}

    def difference(networks: Networks, inputs: Inputs) -> dict[str, Tensor]:
        out = networks[PLAYER](**inputs)[..., 0] * sign.flatten().to(inputs["input"].dtype)
        return {PLAYER: out.sum(1) if positions else out}

    batch = batch_of(rows, None if positions else torch.tensor([0, 0]))
    books = books_for({PLAYER: network}, Clip(1.0), methods={"model:weight": "ghost"})
    got = kept({PLAYER: network}, batch, Clip(1.0), difference, books=books)
    assert float(got["model:weight"].norm()) == pytest.approx(1.0, rel=1e-3)
    assert float(books.norms[PLAYER]) == pytest.approx(7.0, rel=1e-3)
