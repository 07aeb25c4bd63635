"""Gradients of rows of many small parameters side by side: one norm and one sum serve them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from assay.training.bookkeeping.uses import squared, without

Tensor = torch.Tensor


@dataclass
class Gathered:
    """Gradients of rows by parameter.

    Attributes:
        rows: parameter -> `[N, P]`.
    """

    rows: dict[str, Tensor] = field(default_factory=dict)
    _all: Tensor | None = None

    def together(self) -> Tensor:
        """All of them, `[N, sum of P]`."""
        if self._all is None:
            self._all = torch.cat(list(self.rows.values()), 1)
        return self._all

    def squares(self) -> Tensor:
        """Squared norms over all these parameters, `[N]`."""
        return squared(self.together())

    def clear(self, rows: Tensor) -> None:
        """Let the rows that are marked `[N]` (bool) have no gradient."""
        self._all = without(self.together(), rows)

    def add(self, factors: Tensor, gradients: Mapping[str, Tensor]) -> None:
        """Add the sum over rows of `factors` `[N]` times each row's gradient to `gradients`."""
        sizes = [value.shape[1] for value in self.rows.values()]
        sums = torch.split(factors @ self.together(), sizes)
        totals = [gradients[name] for name in self.rows]
        parts = [part.view(total.shape) for part, total in zip(sums, totals, strict=True)]
        torch._foreach_add_(totals, parts)
