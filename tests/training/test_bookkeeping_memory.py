"""What book-keeping holds in memory, and that it adds to no gradient but its own."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn

from assay.training.bookkeeping import check
from assay.training.bookkeeping.backward import leaves
from assay.training.bookkeeping.check import batch_of, choose, losses_of
from assay.training.bookkeeping.engine import BookKeeping, Clip
from assay.training.bookkeeping.matrix import LEAN, reserve
from assay.training.bookkeeping.watch import Moving

ROWS = 5


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(2, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.Tanh(), nn.Linear(30, 6), nn.Tanh()
    )


class Named(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)  # type: ignore[no-any-return]


def books_of(network: nn.Module) -> BookKeeping:
    names = [name for name, _ in network.named_parameters()]
    return BookKeeping(Moving.of({"model": network}, {"model": names}), Clip(0.1))


def clipped(books: BookKeeping, network: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    network.zero_grad()
    with books.watching(batch_of({"x": x})):
        losses = losses_of(network, {"x": x})
    books.backward({"model": losses}, ROWS, {})
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def test_ways_that_keep_nothing_where_memory_is_short(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, x = Named(network), torch.randn(ROWS, 2, 30)
    books = books_of(named)
    weights = {"model:network.0.weight": 4 * ROWS * 48, "model:network.3.weight": 4 * ROWS * 180}
    monkeypatch.setattr(check, "_seconds", lambda use, way, factors: way in ("ghost", "chunks"))
    books.methods = choose(books, named, {"x": x})
    assert set(books.methods) == set(weights)
    assert not LEAN & set(books.methods.values())
    expected = clipped(books, named, x)
    assert set(books.pool) == set(weights)
    monkeypatch.setattr(check, "ALL", min(weights.values()))
    books = books_of(named)
    books.methods = choose(books, named, {"x": x})
    # the larger one gives way
    assert books.methods["model:network.3.weight"] in LEAN
    assert books.methods["model:network.0.weight"] not in LEAN
    found = clipped(books, named, x)
    assert set(books.pool) == {"model:network.0.weight"}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7)


def test_what_is_not_needed_is_let_go_while_the_pass_goes_on(network: nn.Module) -> None:
    named, x = Named(network), torch.randn(ROWS, 2, 30)
    books = books_of(named)
    books.methods = {"model:network.3.weight": "direct"}
    first = named.network[0]  # type: ignore[index]
    watched: list[bool] = []
    with books.watching(batch_of({"x": x})):
        losses = losses_of(named, {"x": x})
    assert books._watch is not None
    last = next(u for u in books._watch.uses if "model:network.3.weight" in u.names.values())
    held = weakref.ref(last.x)  # type: ignore[attr-defined]
    stem = next(u for u in books._watch.uses if "model:network.0.weight" in u.names.values())
    stem.edge.node.register_prehook(lambda _: watched.append(held() is None and last.grad is None))
    books.backward({"model": losses}, ROWS, {})
    assert watched == [True]
    assert first.weight.grad is not None


def test_an_input_with_a_gradient_gets_nothing(network: nn.Module) -> None:
    named = Named(network)
    books = books_of(named)
    plain = torch.randn(ROWS, 2, 30)
    expected = clipped(books, named, plain)
    x = plain.clone().requires_grad_()
    found = clipped(books, named, x)
    assert x.grad is None
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-8)


def test_leaves_are_found_once() -> None:
    a, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    c = a * b
    found = leaves((c + c * a).sum())
    assert sorted(map(id, found)) == sorted([id(a), id(b)])


def test_memory_for_gradients_of_rows_lies_in_one_piece_and_grows() -> None:
    pool: dict[str, torch.Tensor] = {}
    reserve(pool, {"a": 10, "b": 100})
    first = {name: (piece.data_ptr(), piece.numel()) for name, piece in pool.items()}
    assert first["b"][0] == first["a"][0] + 4 * first["a"][1]
    assert all(place % 64 == 0 for place, _ in first.values())
    reserve(pool, {"b": 101})
    assert {name: (piece.data_ptr(), piece.numel()) for name, piece in pool.items()} == first
    reserve(pool, {"b": 1000})
    assert pool["a"].numel() == first["a"][1]
    assert pool["b"].numel() >= 1000
    assert pool["a"].untyped_storage().data_ptr() == pool["b"].untyped_storage().data_ptr()
