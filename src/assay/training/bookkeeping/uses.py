"""Uses of moving parameters in a forward pass, and the gradient of each row through each use.

A use knows the gradient of its output once the backward pass gave it, and gives, for each of its
parameters, gradients of rows `[N, *shape]` (`rows`), their squared norms without building them
(`squares`) and their weighted sum (`weighted`), in whatever way is cheapest.

Shapes: N rows, T positions within a row (tokens, pixels of an output map), I inputs, O outputs.
All is in float32.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional

Tensor = torch.Tensor

#: gradients of rows of one parameter are kept for the weighted sum if they take so many bytes
KEEP = 1 << 28


@dataclass(eq=False)
class Use(ABC):
    """One use of one or two parameters.

    Attributes:
        names: role (`weight`, `bias`) -> name of the moving parameter in that role.
        shapes: role -> the parameter's shape.
        rows_in: number of rows of the pass.
        output: the operation's result, until it is taken.
        edge: the place in the graph where the gradient of the output arrives, whatever becomes of
            the output (it may be changed in place).
        grad: gradient of the output, once there.
    """

    names: dict[str, str]
    shapes: dict[str, torch.Size]
    rows_in: int
    output: Tensor | None
    edge: Any = None
    grad: Tensor | None = None

    def take(self) -> Tensor:
        """The output, which from now on belongs to the network alone."""
        out = self.output
        assert out is not None
        # a view that is changed in place gets another history; what it is a view of keeps its own
        base = out._base if out._is_view() else out
        if base is None or base.numel() != out.numel() or not out.is_contiguous():
            base = out = out.clone()
        self.edge, self.output = torch.autograd.graph.get_gradient_edge(base), None
        return out

    @property
    def g(self) -> Tensor:
        """Gradient of the output."""
        if self.grad is None:
            raise ValueError("expected the gradient of a use that the backward pass reached")
        return self.grad

    def clear(self, rows: Tensor) -> None:
        """Let the rows that are marked `[N]` (bool) have no gradient."""
        if self.grad is not None:
            shape = (self.rows_in, -1)
            filled = self.grad.reshape(shape).masked_fill(rows[:, None], 0.0)
            self.grad = filled.view(self.grad.shape)

    @abstractmethod
    def rows(self, role: str, chosen: slice | Tensor = slice(None)) -> Tensor:
        """Gradients of rows `[N, *shape]`."""

    @abstractmethod
    def weighted(self, role: str, factors: Tensor) -> Tensor:
        """Sum over rows of `factors` `[N]` times each row's gradient, of the parameter's shape."""

    def add(self, role: str, factors: Tensor, total: Tensor, shared: dict[Any, Tensor]) -> None:
        """Add that sum to `total`, which has the parameter's shape, in place.

        Args:
            role: of the parameter.
            factors: of rows `[N]`.
            total: what is added to.
            shared: values of this step that uses of one input share.
        """
        total.add_(self.weighted(role, factors).view(total.shape))

    def methods(self, role: str) -> tuple[str, ...]:
        """Ways to compute squared norms, the cheapest guess first."""
        return ("direct",)

    def squares(self, role: str, method: str, shared: dict[Any, Tensor]) -> Tensor:
        """Squared norms of the gradients of rows, `[N]`.

        Args:
            role: of the parameter.
            method: one of `methods`.
            shared: values of this step that uses of one input share.
        """
        return squared(self.rows(role))

    def outer(self, role: str) -> tuple[Tensor, Tensor] | None:
        """(`[N, T, I]`, `[N, T, O]`), the sum over T of whose outer products is the gradient of
        each row `[N, O, I]`, up to its shape; None where it is no such sum.
        """
        return None


def _over(value: Tensor, shape: Sequence[int]) -> Tensor:
    """Sum `[N, ...]` to `[N, *shape]`, undoing a broadcast of `shape` to the rest."""
    extra = value.dim() - 1 - len(shape)
    if extra > 0:
        value = value.sum(dim=tuple(range(1, 1 + extra)))
    ones = [i + 1 for i, n in enumerate(shape) if n == 1 and value.shape[i + 1] != 1]
    return value.sum(dim=ones, keepdim=True) if ones else value


def _place(x: Tensor) -> tuple[Any, ...]:
    """Names a tensor that is alive: two uses of one input have the same."""
    return x.data_ptr(), tuple(x.shape), x.stride()


def squared(value: Tensor) -> Tensor:
    """Squared norms of rows `[N, ...]`, `[N]`."""
    return torch.linalg.vector_norm(value.flatten(1), dim=1).square()


def gram(a: Tensor) -> Tensor:
    """`[N, T, I]` -> `[N, T, T]`, inner products of positions."""
    return torch.bmm(a, a.transpose(1, 2))


@dataclass(eq=False)
class Matrix(Use, ABC):
    """A use whose weight gradient is a sum of outer products: linear, convolution."""

    kept: Tensor | None = field(default=None, repr=False)
    pool: dict[Any, Tensor] | None = field(default=None, repr=False)

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
            return torch.linalg.vecdot(inner.flatten(1), gram(b).flatten(1))
        if role == "weight" and method == "chunks":
            step = max(1, KEEP // (4 * math.prod(self.shapes[role])))
            parts = [
                squared(self.rows(role, slice(i, i + step))) for i in range(0, self.rows_in, step)
            ]
            return torch.cat(parts)
        found = self.rows(role) if role == "bias" else self.rows_by(method)
        if role == "weight":
            self.kept = found
        return squared(found)

    @abstractmethod
    def rows_by(self, method: str) -> Tensor:
        """Gradients of rows of the weight in a certain way, in the buffer where that can be."""

    @abstractmethod
    def input_key(self) -> Any:
        """Names the input: uses of equal keys share inner products of positions."""

    def weighted(self, role: str, factors: Tensor) -> Tensor:
        """See `Use.weighted`."""
        if role == "bias":
            return factors @ self.rows("bias")
        if self.kept is not None:
            kept, self.kept = self.kept, None
            return (factors @ kept.flatten(1)).view(self.shapes[role])
        return self.contract(factors)

    @abstractmethod
    def contract(self, factors: Tensor) -> Tensor:
        """The weighted sum for the weight without gradients of rows."""

    def keeps(self, role: str) -> bool:
        """Whether gradients of all rows of that parameter may be held at once."""
        return 4 * self.rows_in * math.prod(self.shapes[role]) <= KEEP


@dataclass(eq=False)
class Linear(Matrix):
    """`x W' + b` with `x` `[N, ..., I]` (or rows and positions in one dimension)."""

    x: Tensor = field(default_factory=lambda: torch.empty(0))

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
        return ("ghost", "direct") if ghost <= direct else ("direct", "ghost")

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

    x: Tensor = field(default_factory=lambda: torch.empty(0))
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
            return ("grouped",) if keeps else ("chunks",)
        places = math.prod(self.g.shape[2:])
        weights = math.prod(self.shapes[role])
        ghost = places * (weights // self.g.shape[1] + self.g.shape[1])
        if not keeps:
            return ("ghost",) if ghost <= 4 * weights else ("chunks", "ghost")
        if ghost > 4 * weights:
            return ("unfold", "grouped")
        return ("ghost", "unfold", "grouped")

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


@dataclass(eq=False)
class Embedding(Use):
    """Rows of a table by their index.

    Attributes:
        ids: `[N, ...]`.
        padding: index that gets no gradient.
    """

    ids: Tensor = field(default_factory=lambda: torch.empty(0))
    padding: int | None = None

    def _flat(self) -> tuple[Tensor, Tensor]:
        """Indices `[N, T]` and gradients `[N, T, D]`, nought where they are padding."""
        ids = self.ids.reshape(self.rows_in, -1)
        g = self.g.reshape(self.rows_in, ids.shape[1], -1)
        if self.padding is not None:
            g = g.masked_fill((ids == self.padding)[..., None], 0.0)
        return ids, g

    def methods(self, role: str) -> tuple[str, ...]:
        """See `Use.methods`."""
        return ("ghost",)

    def squares(self, role: str, method: str, shared: dict[Any, Tensor]) -> Tensor:
        """See `Use.squares`: positions of one index add up before they are squared."""
        ids, g = self._flat()
        if method == "direct":
            return squared(self.rows(role))
        same = ids[:, :, None] == ids[:, None, :]
        return (gram(g) * same).sum((1, 2))

    def rows(self, role: str, chosen: slice | Tensor = slice(None)) -> Tensor:
        """See `Use.rows`."""
        ids, g = (v[chosen] for v in self._flat())
        n, d = len(ids), g.shape[-1]
        table = g.new_zeros(n * self.shapes[role][0], d)
        start = torch.arange(n)[:, None] * self.shapes[role][0]
        table.index_add_(0, (ids + start).flatten(), g.flatten(0, 1))
        return table.view(n, *self.shapes[role])

    def weighted(self, role: str, factors: Tensor) -> Tensor:
        """See `Use.weighted`."""
        table = self.g.new_zeros(self.shapes[role])
        self.add(role, factors, table, {})
        return table

    def add(self, role: str, factors: Tensor, total: Tensor, shared: dict[Any, Tensor]) -> None:
        """See `Use.add`."""
        ids, g = self._flat()
        total.index_add_(0, ids.flatten(), (g * factors[:, None, None]).flatten(0, 1))


@dataclass(eq=False)
class Small(Use, ABC):
    """A use whose gradients of rows are small: scales, shifts, tokens."""

    made: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @abstractmethod
    def make(self, role: str) -> Tensor:
        """Gradients of all rows."""

    def rows(self, role: str, chosen: slice | Tensor = slice(None)) -> Tensor:
        """See `Use.rows`."""
        if role not in self.made:
            self.made[role] = self.make(role)
        return self.made[role][chosen]

    def squares(self, role: str, method: str, shared: dict[Any, Tensor]) -> Tensor:
        """See `Use.squares`."""
        return squared(self.rows(role))

    def weighted(self, role: str, factors: Tensor) -> Tensor:
        """See `Use.weighted`."""
        return (factors @ self.rows(role).flatten(1)).view(self.shapes[role])


@dataclass(eq=False)
class Norm(Small):
    """Scale and shift after a normalisation over positions of one row.

    Attributes:
        x: the normalised input, shaped as the output, before scale and shift: made when needed.
        again: makes it.
        channels: scale and shift lie along dimension 1 (group norm), else along the last ones.
    """

    again: Any = None
    channels: bool = False
    x: Tensor | None = None

    def make(self, role: str) -> Tensor:
        """See `Small.make`."""
        value = self.g
        if role == "weight":
            if self.x is None:
                self.x = self.again()
            value = value * self.x
        if self.channels:
            return value.flatten(2).sum(2) if value.dim() > 2 else value
        return _over(value, self.shapes[role])


@dataclass(eq=False)
class Elementwise(Small):
    """A sum or product with a tensor that has a row dimension, or a repetition for each row.

    Attributes:
        factor: what the gradient of the output is multiplied by; None for 1.
        sign: -1 where the parameter is subtracted.
    """

    factor: Tensor | None = None
    sign: float = 1.0

    def make(self, role: str) -> Tensor:
        """See `Small.make`."""
        value = self.g if self.factor is None else self.g * self.factor
        shape = self.shapes[role]
        # a parameter that has the row dimension itself has length 1 there
        short = shape[1:] if len(shape) == self.g.dim() else shape
        found = _over(value, short).reshape(self.rows_in, *shape)
        return found if self.sign == 1.0 else found * self.sign
