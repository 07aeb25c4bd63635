"""Which rows belong to which privacy unit, and uses seen unit by unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from assay.training.batches import Batch
from assay.training.bookkeeping.matrix import Conv, Linear, Matrix, Transposed
from assay.training.bookkeeping.uses import Embedding, Use

Tensor = torch.Tensor


@dataclass
class Grouping:
    """Rows of a batch and their units.

    Attributes:
        of: unit of each row `[N]`.
        units: U.
        plain: row i is unit i.
        shared: values of this backward pass that uses of one input share.
    """

    of: Tensor
    units: int
    plain: bool
    shared: dict[Any, Tensor] = field(default_factory=dict)

    @classmethod
    def of_batch(cls, batch: Batch) -> Grouping:
        """That of a batch."""
        n = len(batch)
        plain = batch.n_units == n and bool((batch.units == torch.arange(n)).all())
        return cls(batch.units, batch.n_units, plain)

    def spread(self, values: Tensor) -> Tensor:
        """Values of units `[U]` -> those of their rows `[N]`."""
        return values if self.plain else values[self.of]

    def rows(self, units: Tensor) -> Tensor:
        """Which rows `[N]` (bool) belong to the units that are marked `[U]` (bool)."""
        return units[self.of]

    def between(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Rows of the units from `start` to `stop`, and each one's unit less `start`."""
        rows = torch.nonzero((self.of >= start) & (self.of < stop)).flatten()
        return rows, self.of[rows] - start

    def places(self) -> Tensor:
        """`[U, R]`: rows of each unit, filled up with N (which is no row)."""
        counts = torch.bincount(self.of, minlength=self.units)
        most = int(counts.max()) if len(counts) else 0
        order = torch.argsort(self.of, stable=True)
        starts = torch.cumsum(counts, 0) - counts
        within = torch.arange(len(order)) - starts[self.of[order]]
        table = torch.full((self.units, most), len(self.of), dtype=torch.long)
        table[self.of[order], within] = order
        return table

    def _by_unit(self, value: Tensor, places: Tensor) -> Tensor:
        """`[N, T, ...]` -> `[U, R T, ...]`, noughts where a unit has fewer rows."""
        if self.plain:
            return value
        padded = torch.cat([value, value.new_zeros(1, *value.shape[1:])])
        return padded[places].flatten(1, 2)

    def together(self, uses: Sequence[tuple[Use, str]]) -> tuple[Use, str] | None:
        """One use with a unit's rows, and all uses, as its positions: so the terms that mix
        them are counted. None where they are not alike, or where building gradients is cheaper.
        """
        first, role = uses[0]
        if role != "weight" or any(type(u) is not type(first) or r != role for u, r in uses):
            return None
        places = self.places()
        name = {role: first.names[role]}
        shape = {role: first.shapes[role]}
        if isinstance(first, Embedding):
            pairs = [u._flat() for u, _ in uses if isinstance(u, Embedding)]
            ids = torch.cat([self._by_unit(i, places) for i, _ in pairs], 1)
            g = torch.cat([self._by_unit(g, places) for _, g in pairs], 1)
            return Embedding(name, shape, self.units, None, grad=g, ids=ids), role
        if not isinstance(first, (Linear, Transposed, Conv)) or "ghost" not in first.methods(role):
            return None
        found = [u.outer(role) for u, _ in uses if isinstance(u, Matrix)]
        x = torch.cat([self._by_unit(p[0], places) for p in found if p is not None], 1)
        g = torch.cat([self._by_unit(p[1], places) for p in found if p is not None], 1)
        return Linear(name, shape, self.units, None, grad=g, x=x), role
