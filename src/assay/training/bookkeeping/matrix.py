"""Uses whose weight gradient is a sum of outer products: linear layers and convolutions.

Shapes: see `assay.training.bookkeeping.uses`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional

from assay.training.bookkeeping.uses import KEEP, Use, diagonal, gram, squared, without

Tensor = torch.Tensor

#: the ways that keep no gradients of rows from norms to sums
LEAN = frozenset({"ghost", "chunks"})
_NOTHING = torch.empty(0)


def _place(x: Tensor) -> tuple[Any, ...]:
    """Names a tensor that is alive: two uses of one input have the same."""
    return x.data_ptr(), tuple(x.shape), x.stride()


def reserve(pool: dict[Any, Tensor], sizes: dict[str, int]) -> None:
    """Let a pool have memory for so many values of each parameter, all in one piece.

    Pieces that are made while a backward pass frees others would lie between these, and what is
    free between them could not be given back.
    """
    held = {name: piece.numel() for name, piece in pool.items()}
    short = {name: size for name, size in sizes.items() if held.get(name, 0) < size}
    if not short:
        return
    # the next batch may be a little larger; each begins where vectors may be loaded at once
    room = held | {name: (size + size // 8 + 15) // 16 * 16 for name, size in short.items()}
    pool.clear()
    pieces = torch.split(torch.empty(sum(room.values())), list(room.values()))
    pool.update(zip(room, pieces, strict=True))


@dataclass(eq=False)
class Matrix(Use, ABC):
    """A use whose weight gradient is a sum of outer products: linear, convolution.

    Attributes:
        x: its input.
        kept: gradients of rows of the weight, from its norm to its sum.
        sums: those of the bias.
        pool: see `buffer`.
    """

    x: Tensor = field(default_factory=lambda: torch.empty(0))
    kept: Tensor | None = field(default=None, repr=False)
    sums: Tensor | None = field(default=None, repr=False)
    pool: dict[Any, Tensor] | None = field(default=None, repr=False)

    def clear(self, rows: Tensor) -> None:
        """See `Use.clear`."""
        super().clear(rows)
        if self.grad is not None:
            self.x = without(self.x, rows)
        self.kept = None if self.kept is None else without(self.kept, rows)
        self.sums = None if self.sums is None else without(self.sums, rows)

    def settle(self) -> None:
        """See `Use.settle`: gradients of rows are enough where they are kept."""
        if "weight" not in self.names or self.kept is not None:
            self.grad, self.x = None, _NOTHING

    def is_small(self, role: str) -> bool:
        """See `Use.is_small`."""
        return role == "bias"

    def buffer(self, *shape: int) -> Tensor | None:
        """Memory for gradients of rows, the same in every step: fresh memory costs more time than
        the multiplication that fills it.
        """
        if self.pool is None:
            return None
        key = self.names["weight"]
        held = self.pool.get(key)
        size = math.prod(shape)
        if held is None or held.numel() < size:
            held = self.pool[key] = torch.empty(size)
        return held[:size].view(shape)

    def squares(self, role: str, method: str, shared: dict[Any, Tensor]) -> Tensor:
        """See `Use.squares`."""
        if role == "weight" and method == "ghost":
            pair = self.outer(role)
            assert pair is not None
            a, b = pair
            if a.shape[1] == 1:
                return squared(a) * squared(b)
            key = self.input_key()
            inner = shared.get(key)
            if inner is None:
                inner = shared[key] = gram(a)
            other = gram(b)
            found: Tensor = torch.linalg.vecdot(inner.flatten(1), other.flatten(1))
            terms = torch.linalg.vecdot(diagonal(inner), diagonal(other))
            return self.found_again(role, found, terms)
        if role == "weight" and method == "chunks":
            # few enough that they take little memory beside those that are kept
            step = max(1, KEEP // (32 * math.prod(self.shapes[role])))
            parts = [
                squared(self.rows(role, slice(i, i + step))) for i in range(0, self.rows_in, step)
            ]
            return torch.cat(parts)
        if role == "bias":
            self.sums = self.rows(role)
            return squared(self.sums)
        self.kept = self.rows_by(method)
        return squared(self.kept)

    @abstractmethod
    def rows_by(self, method: str) -> Tensor:
        """Gradients of rows of the weight in a certain way, in the buffer where that can be."""

    @abstractmethod
    def input_key(self) -> Any:
        """Names the input: uses of equal keys share inner products of positions."""

    def weighted(self, role: str, factors: Tensor) -> Tensor:
        """See `Use.weighted`."""
        if role == "bias":
            return factors @ (self.rows("bias") if self.sums is None else self.sums)
        if self.kept is not None:
            kept, self.kept = self.kept, None
            return (factors @ kept.flatten(1)).view(self.shapes[role])
        return self.contract(factors)

    def add(self, role: str, factors: Tensor, total: Tensor, shared: dict[Any, Tensor]) -> None:
        """See `Use.add`."""
        if role == "bias" or self.kept is None or not total.is_contiguous():
            super().add(role, factors, total, shared)
        else:
            total.view(1, -1).addmm_(factors[None], self.kept.flatten(1))
            self.kept = None

    @abstractmethod
    def contract(self, factors: Tensor) -> Tensor:
        """The weighted sum for the weight without gradients of rows."""

    def keeps(self, role: str) -> bool:
        """Whether gradients of all rows of that parameter may be held at once."""
        return 4 * self.rows_in * math.prod(self.shapes[role]) <= KEEP


@dataclass(eq=False)
class Linear(Matrix):
    """`x W' + b` with `x` `[N, ..., I]` (or rows and positions in one dimension)."""

    def _a(self) -> Tensor:
        return self.x.reshape(self.rows_in, -1, self.x.shape[-1])

    def _b(self) -> Tensor:
        return self.g.reshape(self.rows_in, -1, self.g.shape[-1])

    def methods(self, role: str) -> tuple[str, ...]:
        """See `Use.methods`."""
        if role == "bias":
            return ("direct",)
        a, b = self._a(), self._b()
        if a.shape[1] == 1:
            return ("ghost",)
        ghost = a.shape[1] * (a.shape[2] + b.shape[2])
        direct = a.shape[2] * b.shape[2]
        if not self.keeps(role):
            return ("ghost",) if ghost <= 4 * direct else ("chunks", "ghost")
        first = ("ghost", "direct") if ghost <= direct else ("direct", "ghost")
        return (*first, "chunks")

    def input_key(self) -> Any:
        """See `Matrix.input_key`."""
        return ("linear", *_place(self.x), self.rows_in)

    def rows(self, role: str, chosen: slice | Tensor = slice(None)) -> Tensor:
        """See `Use.rows`."""
        b = self._b()[chosen]
        if role == "bias":
            return b.sum(1)
        return torch.bmm(b.transpose(1, 2), self._a()[chosen])

    def rows_by(self, method: str) -> Tensor:
        """See `Matrix.rows_by`."""
        a, b = self._a(), self._b()
        out = self.buffer(len(a), b.shape[2], a.shape[2])
        return torch.bmm(b.transpose(1, 2), a, out=out)

    def outer(self, role: str) -> tuple[Tensor, Tensor] | None:
        """See `Use.outer`."""
        return (self._a(), self._b()) if role == "weight" else None

    def contract(self, factors: Tensor) -> Tensor:
        """See `Matrix.contract`."""
        total = self.x.new_zeros(self.shapes["weight"])
        self._contract(factors, total, {})
        return total

    def add(self, role: str, factors: Tensor, total: Tensor, shared: dict[Any, Tensor]) -> None:
        """See `Use.add`."""
        if role == "bias" or self.kept is not None or not total.is_contiguous():
            super().add(role, factors, total, shared)
        else:
            self._contract(factors, total, shared)

    def _contract(self, factors: Tensor, total: Tensor, shared: dict[Any, Tensor]) -> None:
        """Add the weighted sum to `total`: whichever side is smaller is weighted, an input that
        several uses have in common once.
        """
        a, b = self._a(), self._b()
        if a.shape[2] > b.shape[2]:
            b = b * factors[:, None, None]
        else:
            key = ("weighted", *self.input_key())
            a = shared[key] if key in shared else a * factors[:, None, None]
            shared[key] = a
        self._sum_into(total, a.flatten(0, 1), b.flatten(0, 1))

    @staticmethod
    def _sum_into(total: Tensor, a: Tensor, b: Tensor) -> None:
        total.addmm_(b.t(), a)


@dataclass(eq=False)
class Transposed(Linear):
    """`b + x W` (`addmm`, `matmul`): the weight lies `[I, O]`."""

    def rows_by(self, method: str) -> Tensor:
        """See `Matrix.rows_by`."""
        a, b = self._a(), self._b()
        out = self.buffer(len(a), a.shape[2], b.shape[2])
        return torch.bmm(a.transpose(1, 2), b, out=out)

    def rows(self, role: str, chosen: slice | Tensor = slice(None)) -> Tensor:
        """See `Use.rows`."""
        if role == "bias":
            return self._b()[chosen].sum(1)
        return torch.bmm(self._a()[chosen].transpose(1, 2), self._b()[chosen])

    @staticmethod
    def _sum_into(total: Tensor, a: Tensor, b: Tensor) -> None:
        total.addmm_(a.t(), b)


@dataclass(eq=False)
class Conv(Matrix):
    """A convolution over 1, 2 or 3 dimensions, in groups or not.

    Attributes:
        x: its input `[N, C, ...]`.
        stride: and `padding`, `dilation`, `groups`: as torch has them, padding in numbers.
    """

    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1

    @property
    def _unfolds(self) -> bool:
        return self.groups == 1 and self.x.dim() in (3, 4)

    def methods(self, role: str) -> tuple[str, ...]:
        """See `Use.methods`."""
        if role == "bias":
            return ("direct",)
        keeps = self.keeps(role)
        if not self._unfolds:
            return ("grouped", "chunks") if keeps else ("chunks",)
        places = math.prod(self.g.shape[2:])
        weights = math.prod(self.shapes[role])
        ghost = places * (weights // self.g.shape[1] + self.g.shape[1])
        if not keeps:
            return ("ghost",) if ghost <= 4 * weights else ("chunks", "ghost")
        if ghost > 4 * weights:
            return ("unfold", "grouped", "chunks")
        return ("ghost", "unfold", "grouped", "chunks")

    def input_key(self) -> Any:
        """See `Matrix.input_key`."""
        how = (tuple(self.shapes["weight"][2:]), self.stride, self.padding, self.dilation)
        return ("conv", *_place(self.x), how)

    def _columns(self, chosen: slice | Tensor = slice(None)) -> Tensor:
        """Input patches `[N, C * kernel, T]`."""
        x = self.x[chosen]
        kernel = tuple(self.shapes["weight"][2:])
        if x.dim() == 3:
            return functional.unfold(
                x[:, :, None],
                (1, *kernel),
                (1, *self.dilation),
                (0, *self.padding),
                (1, *self.stride),
            )
        if all(k == 1 for k in kernel) and not any(self.padding) and set(self.stride) == {1}:
            return x.flatten(2)
        return functional.unfold(x, kernel, self.dilation, self.padding, self.stride)

    def _backward(self, x: Tensor, g: Tensor, weight: Tensor, groups: int) -> Tensor:
        """Gradient of a weight, as torch computes it."""
        dims = len(self.stride)
        found: Tensor = torch.ops.aten.convolution_backward(
            g,
            x,
            weight,
            None,
            list(self.stride),
            list(self.padding),
            list(self.dilation),
            False,
            [0] * dims,
            groups,
            [False, True, False],
        )[1]
        return found

    def rows_by(self, method: str) -> Tensor:
        """See `Matrix.rows_by`."""
        return self._unfolded() if method == "unfold" else self.rows("weight")

    def _unfolded(self) -> Tensor:
        g, columns = self.g.flatten(2), self._columns()
        out = self.buffer(len(g), g.shape[1], columns.shape[1])
        return torch.bmm(g, columns.transpose(1, 2), out=out)

    def rows(self, role: str, chosen: slice | Tensor = slice(None)) -> Tensor:
        """See `Use.rows`: all rows at once are the groups of one convolution."""
        g = self.g[chosen]
        if role == "bias":
            return g.flatten(2).sum(2)
        x, shape = self.x[chosen], self.shapes[role]
        n = len(x)
        if n == 0:
            return g.new_zeros(0, *shape)
        weight = g.new_empty(1).expand(n * shape[0], *shape[1:])
        found = self._backward(
            x.reshape(1, -1, *x.shape[2:]),
            g.reshape(1, -1, *g.shape[2:]),
            weight,
            n * self.groups,
        )
        return found.reshape(n, *shape)

    def outer(self, role: str) -> tuple[Tensor, Tensor] | None:
        """See `Use.outer`."""
        if role != "weight" or not self._unfolds:
            return None
        return self._columns().transpose(1, 2), self.g.flatten(2).transpose(1, 2)

    def contract(self, factors: Tensor) -> Tensor:
        """See `Matrix.contract`."""
        g = self.g * factors.view(-1, *[1] * (self.g.dim() - 1))
        weight = g.new_empty(1).expand(self.shapes["weight"])
        return self._backward(self.x, g, weight, self.groups)
