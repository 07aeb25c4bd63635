"""Clipped sums by book-keeping equal a loop over units, for each kind of layer, over shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
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

from assay.training.bookkeeping.engine import Clip

Tensor = torch.Tensor
few = settings(max_examples=12)
rows = st.integers(1, 5)
widths = st.integers(1, 5)
seeds = st.integers(0, 10_000)
#: inputs reach the layer as data, or after another layer: gradients pass through it then
firsts = st.booleans()


def after(first: bool, width: int, layer: nn.Module) -> nn.Module:
    """The layer by itself, or after one whose gradient needs what passes through the layer."""
    before = nn.Linear(width, width)
    return Of(lambda s, x: s.layer(x if first else s.before(x)), layer=layer, before=before)


def trained(network: nn.Module, first: bool) -> nn.Module:
    """Of the layer before, nothing moves where it is not used."""
    if first:
        network.get_submodule("before").requires_grad_(False)
    return network


# -- linear layers --------------------------------------------------------------------------------


@few
@given(rows, st.lists(st.integers(1, 4), max_size=2), widths, widths, firsts, st.booleans(), seeds)
def test_linear(
    n: int, inner: list[int], i: int, o: int, first: bool, bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    network = trained(after(first, i, nn.Linear(i, o, bias=bias)), first)
    odd = check(network, {"x": torch.randn(n, *inner, i)})
    assert not odd


@few
@given(rows, st.integers(1, 4), widths, widths, firsts, seeds)
def test_linear_on_flattened_rows_and_positions(
    n: int, t: int, i: int, o: int, first: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = Of(
        lambda s, x: s.linear(x.flatten(0, 1)).view(len(x), -1, o).tanh(), linear=nn.Linear(i, o)
    )
    assert not check(trained(after(first, i, layer), first), {"x": torch.randn(n, t, i)})


@few
@given(rows, st.integers(1, 4), widths, widths, firsts, st.sampled_from(["mm", "addmm"]), seeds)
def test_products_with_a_bare_matrix(
    n: int, t: int, i: int, o: int, first: bool, way: str, seed: int
) -> None:
    torch.manual_seed(seed)

    def product(self: Any, x: Tensor) -> Tensor:
        if way == "mm":
            multiplied: Tensor = x @ self.weight
            return multiplied
        flat = torch.addmm(self.shift, x.reshape(-1, i), self.weight)
        out: Tensor = flat.view(len(x), -1, o)
        return out

    layer = Of(product, weight=parameter(i, o), **({} if way == "mm" else {"shift": parameter(o)}))
    assert not check(trained(after(first, i, layer), first), {"x": torch.randn(n, t, i)})


# -- convolutions ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(max_examples=30)
@given(st.data(), st.integers(1, 3), rows, seeds)
def test_convolutions(data: st.DataObject, dims: int, n: int, seed: int) -> None:
    torch.manual_seed(seed)
    groups = data.draw(st.sampled_from([1, 1, 2, 3]), "groups")
    i, o = groups * data.draw(st.integers(1, 2)), groups * data.draw(st.integers(1, 2))
    kernel = tuple(data.draw(st.integers(1, 3)) for _ in range(dims))
    dilation = tuple(data.draw(st.integers(1, 2)) for _ in range(dims))
    padding: Any = data.draw(st.sampled_from(["same", "valid", "numbers"]))
    stride: Any = tuple(data.draw(st.integers(1, 2)) for _ in range(dims))
    if padding == "same":
        stride = 1
    elif padding == "numbers":
        padding = tuple(data.draw(st.integers(0, 2)) for _ in range(dims))
    kind: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    layer = kind(
        i, o, kernel, stride, padding, dilation, groups, bias=data.draw(st.booleans(), "bias")
    )
    before = kind(i, i, 1)
    first = data.draw(firsts)
    network = Of(lambda s, x: s.layer(x if first else s.before(x)), layer=layer, before=before)
    size = [k + 3 for k in (5, 4, 3)[:dims]]
    assert not check(trained(network, first), {"x": torch.randn(n, i, *size)})


@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_depthwise_convolution_of_any_layout(mode: Any, channels_last: bool) -> None:
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, padding_mode=mode),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 8, 3, groups=4, stride=2),
        nn.SiLU(inplace=True),
        nn.Conv2d(8, 2, 1),
    )
    x = torch.randn(4, 3, 9, 7)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = x.to(memory_format=torch.channels_last)
    assert not check(network, {"input": x})


# -- embeddings -----------------------------------------------------------------------------------


@few
@given(rows, st.integers(1, 6), widths, st.sampled_from([None, 0, -1]), seeds)
def test_embeddings_of_repeated_and_padded_ids(
    n: int, t: int, d: int, padding: int | None, seed: int
) -> None:
    torch.manual_seed(seed)
    network = nn.Embedding(4, d, padding_idx=padding)
    with torch.no_grad():
        network.weight.normal_()
    ids = torch.randint(0, 4, (n, t))
    ids[0, 0] = 1  # one at least that is no padding
    assert not check(network, {"input": ids})


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("shape", ["[1, T]", "[T]", "[N, T]"])
def test_position_ids_that_all_rows_share(shape: str, rows: int) -> None:
    torch.manual_seed(0)

    def forward(self: Any, x: Tensor) -> Tensor:
        ids = torch.arange(x.shape[1])
        if shape == "[1, T]":
            ids = ids[None]
        elif shape == "[N, T]":
            ids = ids.expand(len(x), -1)
        out: Tensor = (self.tokens(x) + self.positions(ids)).tanh()
        return out

    network = Of(forward, tokens=nn.Embedding(6, 3), positions=nn.Embedding(8, 3))
    odd = check(network, {"x": torch.randint(0, 6, (rows, 5))})
    assert odd == (frozenset({"model:positions.weight"}) if shape == "[T]" else frozenset())


# -- norms ----------------------------------------------------------------------------------------


@few
@given(rows, st.lists(st.integers(1, 3), min_size=1, max_size=3), firsts, st.booleans(), seeds)
def test_layer_and_rms_norm(n: int, shape: list[int], first: bool, rms: bool, seed: int) -> None:
    torch.manual_seed(seed)
    over = shape[-1] + 1  # a norm over one number is nought
    kind: Any = nn.RMSNorm if rms else nn.LayerNorm
    layer = kind(over, eps=1e-3)
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_()
    network = trained(after(first, over, layer), first)
    assert not check(network, {"x": torch.randn(n, *shape[:-1], over)})


def test_layer_norm_over_several_dimensions() -> None:
    torch.manual_seed(0)
    layer = nn.LayerNorm((3, 4))
    assert not check(layer, {"input": torch.randn(5, 2, 3, 4)})


@few
@given(
    rows, st.integers(1, 2), st.integers(1, 3), st.lists(st.integers(2, 3), max_size=2), firsts,
    seeds,
)  # fmt: skip
def test_group_norm(
    n: int, groups: int, each: int, inner: list[int], first: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    channels = groups * (each + (not inner))
    layer = nn.GroupNorm(groups, channels, eps=1e-3)
    before = parameter(channels, *[1] * len(inner))
    network = Of(lambda s, x: s.layer(x if first else x * s.before), layer=layer, before=before)
    if first:
        before.requires_grad_(False)
    assert not check(network, {"x": torch.randn(n, channels, *inner)})


# -- bare parameters ------------------------------------------------------------------------------

BARE: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "scale": lambda s, x: x * s.row,
    "scale first": lambda s, x: s.row * x,
    "shift": lambda s, x: x + s.row,
    "shift away": lambda s, x: x - s.row,
    "away from a parameter": lambda s, x: s.row - x,
    "torch.sub": lambda s, x: torch.sub(s.row, x),
    "torch.rsub": lambda s, x: torch.rsub(s.row, x),
    "one number": lambda s, x: x * s.one,
    "position table [1, T, D]": lambda s, x: x + s.table,
    "position table [T, D]": lambda s, x: x + s.table[0],
    "token by expand": lambda s, x: torch.cat([s.token.expand(len(x), -1, -1), x], 1),
    "token of one dimension": lambda s, x: torch.cat([s.row.expand(len(x), 1, 3), x], 1),
    "token by repeat": lambda s, x: torch.cat([s.token.repeat(len(x), 1, 1), x], 1),
    "part of a table": lambda s, x: x + s.table[:, : x.shape[1]],
    "times a function of itself": lambda s, x: x * s.row.sigmoid() + s.row,
    "inplace": lambda s, x: (x * s.row).add_(s.row),
    "division": lambda s, x: x / (s.row.square() + 1),
    "prelu": lambda s, x: functional.prelu(x, s.one),
    "bilinear": lambda s, x: functional.bilinear(x, x, s.cube),
    "transposed": lambda s, x: functional.conv_transpose1d(x, s.kernel),
    "einsum": lambda s, x: torch.einsum("nti,oi->nto", x, s.square),
    "softmax of weights": lambda s, x: x @ s.square.softmax(0),
    "a parameter times a parameter": lambda s, x: x @ (s.square * s.row),
    "out of place twice": lambda s, x: (x + s.row) * s.row,
}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("name", BARE)
@pytest.mark.parametrize("n", [1, 4])
def test_bare_parameters(name: str, first: bool, n: int) -> None:
    torch.manual_seed(0)
    network = Of(
        lambda s, x: BARE[name](s, x if first else s.before(x)),
        row=parameter(3),
        one=parameter(1),
        table=parameter(1, 4, 3),
        token=parameter(1, 1, 3),
        square=parameter(3, 3),
        cube=parameter(2, 3, 3),
        kernel=parameter(4, 2, 3),
        before=nn.Linear(3, 3),
    )
    check(network, {"x": torch.randn(n, 4, 3)})


# -- the same parameter several times -------------------------------------------------------------


def two_layers(self: Any, x: Tensor) -> Tensor:
    out: Tensor = self.b(self.a(self.b(self.a(x)).tanh()).relu())
    return out


def test_reused_modules() -> None:
    torch.manual_seed(0)
    network = Of(two_layers, a=nn.Linear(4, 4), b=nn.Linear(4, 4))
    assert not check(network, {"x": torch.randn(5, 4)})
    assert not check(network, {"x": torch.randn(5, 3, 4)})
    network = Of(two_layers, a=nn.Conv2d(2, 2, 3, padding=1), b=nn.GroupNorm(2, 2))
    assert not check(network, {"x": torch.randn(3, 2, 4, 5)})


def test_tied_embedding_and_output() -> None:
    torch.manual_seed(0)
    network = Of(
        lambda s, x: s.out(s.norm(s.tokens(x))).log_softmax(-1),
        tokens=nn.Embedding(6, 4),
        norm=nn.LayerNorm(4),
        out=nn.Linear(4, 6, bias=False),
    )
    network.out.weight = network.tokens.weight  # type: ignore[union-attr]
    assert len(list(network.parameters())) == 3
    assert not check(network, {"x": torch.randint(0, 6, (4, 5))})
    assert not check(network, {"x": torch.randint(0, 6, (4, 5))}, torch.tensor([0, 1, 0, 1]))


# -- units of several rows ------------------------------------------------------------------------

KINDS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "linear": lambda: (
        nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)),
        torch.randn(7, 3),
    ),
    "tokens": lambda: (
        nn.Sequential(nn.Embedding(5, 3), nn.LayerNorm(3), nn.Linear(3, 2)),
        torch.randint(0, 5, (7, 4)),
    ),
    "images": lambda: (
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 2, groups=2)),
        torch.randn(7, 2, 5, 5),
    ),
    "volumes": lambda: (nn.Conv3d(2, 2, 2), torch.randn(7, 2, 3, 3, 3)),
}


@few
@given(st.sampled_from(sorted(KINDS)), st.permutations([0, 0, 0, 1, 1, 2, 3]), seeds)
def test_a_units_rows_are_summed_before_they_are_clipped(
    kind: str, units: list[int], seed: int
) -> None:
    torch.manual_seed(seed)
    network, x = KINDS[kind]()
    assert not check(network, {"input": x}, torch.tensor(units))


def test_two_rows_that_cancel_are_no_long_gradient() -> None:
    network = nn.Linear(2, 1, bias=False)
    batch = batch_of({"input": torch.tensor([[3.0, 4.0], [-3.0, -4.0]])}, torch.tensor([0, 0]))

    def linear(networks: Networks, inputs: Inputs) -> dict[str, Tensor]:
        return {PLAYER: networks[PLAYER](**inputs)[:, 0]}

    books = books_for({PLAYER: network}, Clip(1.0))
    got = kept({PLAYER: network}, batch, Clip(1.0), linear, books=books)
    assert got["model:weight"].norm() < 1e-6
    assert books.norms[PLAYER].tolist() == [0.0]


# -- ways of computing norms ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("grouped", [False, True])
def test_each_way_of_computing_norms_gives_the_same(
    kind: str, grouped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    network, x = KINDS[kind]()
    networks = {PLAYER: network}
    batch = batch_of({"input": x}, torch.tensor([0, 0, 0, 1, 1, 2, 3]) if grouped else None)
    _, norms = looped(networks, batch, Clip(1.0))
    clip = Clip(float(norms[PLAYER].median()))
    want, _ = looped(networks, batch, clip)
    names = [f"model:{n}" for n, p in network.named_parameters() if p.dim() > 1]
    for memory in (1 << 28, 512):  # a small one has gradients of rows built in chunks
        monkeypatch.setattr("assay.training.bookkeeping.engine.KEEP", memory)
        monkeypatch.setattr("assay.training.bookkeeping.matrix.KEEP", memory)
        for way in ("ghost", "direct", "unfold", "grouped", "chunks"):
            books = books_for(networks, clip, methods=dict.fromkeys(names, way))
            assert_equal(kept(networks, batch, clip, books=books), want)
            # a second step uses the same memory again
            assert_equal(kept(networks, batch, clip, books=books), want)
