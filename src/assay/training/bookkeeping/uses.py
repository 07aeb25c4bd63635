"""Uses of moving parameters in a forward pass, and the gradient of each row through each use.

A use knows the gradient of its output once the backward pass gave it, and gives, for each of its
parameters, gradients of rows `[N, *shape]` (`rows`), their squared norms without building them
(`squares`) and their weighted sum (`weighted`), in whatever way is cheapest.

Shapes: N rows, T positions within a row (tokens, pixels of an output map), I inputs, O outputs.
All is in float32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

Tensor = torch.Tensor

#: gradients of rows of one parameter are kept for the weighted sum if they take so many bytes
KEEP = 1 << 28
#: a squared norm that is so small a part of its terms is lost in their rounding
LOST = 1e-3
#: parameters of so many values are small
SMALL = 4096


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
        grad: gradient of the output, once there and as long as it is needed.
        reached: the backward pass gave one.
    """

    names: dict[str, str]
    shapes: dict[str, torch.Size]
    rows_in: int
    output: Tensor | None
    edge: Any = None
    grad: Tensor | None = None
    reached: bool = False

    def take(self) -> Tensor:
        """The output, which from now on belongs to the network alone."""
        out = self.output
        assert out is not None
        # a view that is changed in place gets another history; what it is a view of keeps its own
        base = out._base if out._is_view() else out
        # what was computed on data alone has a base without any history
        whole = base is not None and base.requires_grad and base.numel() == out.numel()
        if base is None or not whole or not out.is_contiguous():
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
            self.grad = without(self.grad, rows)

    def settle(self) -> None:  # noqa: B027 - not every use has something to let go of
        """Let go of what the clipped sum does not need, now that all norms are there."""

    def is_small(self, role: str) -> bool:
        """Whether gradients of rows are so small that they are best gathered with others."""
        return False

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

    def found_again(self, role: str, found: Tensor, terms: Tensor) -> Tensor:
        """Squared norms `[N]`, built anew where inner products have cancelled.

        A norm that were found too small would let a unit past its bound.

        Args:
            role: of the parameter.
            found: squared norms from inner products.
            terms: squared norms of what positions add, summed.
        """
        lost = torch.nonzero(found < LOST * terms).flatten()
        if len(lost):
            step = max(1, KEEP // (4 * self.shapes[role].numel()))
            built = [squared(self.rows(role, some)) for some in torch.split(lost, step)]
            found = found.index_copy(0, lost, torch.cat(built))
        return found

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


def squared(value: Tensor) -> Tensor:
    """Squared norms of rows `[N, ...]`, `[N]`."""
    norms: Tensor = torch.linalg.vector_norm(value.flatten(1), dim=1)
    return norms.square()


def without(value: Tensor, rows: Tensor) -> Tensor:
    """A copy of `[N, ...]` (or rows and positions in one dimension) with noughts in the rows that
    are marked `[N]` (bool).
    """
    return value.reshape(len(rows), -1).masked_fill(rows[:, None], 0.0).view(value.shape)


def gram(a: Tensor) -> Tensor:
    """`[N, T, I]` -> `[N, T, T]`, inner products of positions."""
    return torch.bmm(a, a.transpose(1, 2))


def diagonal(inner: Tensor) -> Tensor:
    """`[N, T, T]` -> `[N, T]`, squared norms of positions."""
    return inner.diagonal(dim1=1, dim2=2)


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
        inner = gram(g)
        return self.found_again(role, (inner * same).sum((1, 2)), diagonal(inner).sum(1))

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
    gone: Tensor | None = None

    def clear(self, rows: Tensor) -> None:
        """See `Use.clear`."""
        super().clear(rows)
        self.made = {role: without(value, rows) for role, value in self.made.items()}
        self.gone = rows

    def is_small(self, role: str) -> bool:
        """See `Use.is_small`."""
        return self.shapes[role].numel() <= SMALL

    def settle(self) -> None:
        """See `Use.settle`: gradients of rows are there, and small."""
        self.grad = None
        self.forget()

    def forget(self) -> None:
        """Let go of what gradients of rows are made from, besides the output's."""

    @abstractmethod
    def make(self, role: str) -> Tensor:
        """Gradients of all rows."""

    def rows(self, role: str, chosen: slice | Tensor = slice(None)) -> Tensor:
        """See `Use.rows`."""
        if role not in self.made:
            made = self.make(role)
            self.made[role] = made if self.gone is None else without(made, self.gone)
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
        again: makes the normalised input, shaped as the output, before scale and shift; where there
            is `rate`, without that factor.
        rate: what the centred input of each position `[N, T]`, or group `[N, G]`, is multiplied by.
        channels: scale and shift lie along dimension 1 (group norm), else along the last ones.
    """

    again: Any = None
    rate: Tensor | None = None
    channels: bool = False

    def forget(self) -> None:
        """See `Small.forget`."""
        self.again = self.rate = None

    def make(self, role: str) -> Tensor:
        """See `Small.make`."""
        value, rate = self.g, None
        if role == "weight":
            value, rate = self.again().mul_(value), self.rate
        n, shape = self.rows_in, self.shapes[role]
        if self.channels:
            sums = value.flatten(2).sum(2) if value.dim() > 2 else value
            return (
                sums if rate is None else (sums.view(*rate.shape, -1) * rate[..., None]).flatten(1)
            )
        if rate is None:
            return _over(value, shape)
        sums = torch.bmm(rate.view(n, 1, -1), value.reshape(n, -1, shape.numel()))
        return sums.view(n, *shape)


@dataclass(eq=False)
class Elementwise(Small):
    """A sum or product with a tensor that has a row dimension, or a repetition for each row.

    Attributes:
        factor: what the gradient of the output is multiplied by; None for 1.
        sign: -1 where the parameter is subtracted.
    """

    factor: Tensor | None = None
    sign: float = 1.0

    def forget(self) -> None:
        """See `Small.forget`."""
        self.factor = None

    def make(self, role: str) -> Tensor:
        """See `Small.make`."""
        value = self.g if self.factor is None else self.g * self.factor
        shape = self.shapes[role]
        # a parameter that has the row dimension itself has length 1 there
        short = shape[1:] if len(shape) == self.g.dim() else shape
        found = _over(value, short).reshape(self.rows_in, *shape)
        return found if self.sign == 1.0 else found * self.sign
