"""Batches of rows, and the unit each row belongs to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch


@dataclass
class Batch:
    """Rows as the network takes them.

    Attributes:
        inputs: keyword arguments of the network's forward, each `[N, ...]`.
        targets: `[N]` class index (int64) or value (float32).
        weights: `[N]` weight of each row's loss.
        rows: `[N]` index of each row in its split.
        units: `[N]` index of each row's privacy unit within this batch, in `0..n_units-1`.
        n_units: number of units, U.
        plain: each row is a unit of its own and weighs 1, so that losses of rows are those of
            units as they stand.
        mixture: for images made of two rows: index within the batch of the other row `[N]`, and the
            share of the row itself `[N]` in [0, 1]. Every term's loss is then the shared sum of
            the losses with the row's own target and with the other's.
        extras: row-aligned tensors a term asked for (cached teacher outputs, ...).
    """

    inputs: dict[str, torch.Tensor]
    targets: torch.Tensor
    weights: torch.Tensor
    rows: torch.Tensor
    units: torch.Tensor
    n_units: int
    plain: bool = False
    mixture: tuple[torch.Tensor, torch.Tensor] | None = None
    extras: dict[str, torch.Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.rows.shape[0])


def partnered(batch: Batch) -> Batch:
    """The same inputs with the targets of each row's partner in the mixture."""
    if batch.mixture is None:
        raise ValueError("expected a batch with a mixture")
    partner = batch.mixture[0]
    return replace(
        batch,
        targets=batch.targets[partner],
        rows=batch.rows[partner],
        extras={name: value[partner] for name, value in batch.extras.items()},
        mixture=None,
    )


def to_units(rows: torch.Tensor, units: torch.Tensor, n_units: int) -> torch.Tensor:
    """Sum losses of rows `[M]` into losses of units `[U]`; differentiable.

    Args:
        rows: losses.
        units: index of the unit of each row.
        n_units: U.
    """
    if rows.shape != units.shape:
        raise ValueError(
            f"expected one unit a row: rows {tuple(rows.shape)}, units {tuple(units.shape)}"
        )
    return rows.new_zeros(n_units).index_add(0, units, rows)
