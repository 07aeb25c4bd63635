"""Logical batches by Poisson sampling of privacy units, as the accountant assumes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from assay.training.batches import Batch
from assay.training.sources import RowSource, State

if TYPE_CHECKING:
    from assay.privacy.randomness import Stream

Ints = npt.NDArray[np.int64]


@dataclass
class PoissonSource:
    """Each step takes every privacy unit with the same probability, whatever the others do.

    The batch of a step has any size, also none; it is handed out in pieces of bounded size, a
    unit's rows never apart. Where a unit has more than `most` rows, so many are chosen anew each
    time it is taken.

    Attributes:
        rows: the training rows.
        stream: secret randomness; what is taken in a step is a function of its key and the step.
        expected: units expected in a step.
        most: rows of a unit taken in a step, at most.
        piece: rows of a piece, at most (more only where one unit alone has more).
    """

    rows: RowSource
    stream: Stream
    expected: float
    most: int
    piece: int

    def __post_init__(self) -> None:
        units = self.rows.units
        self._order: Ints = np.argsort(units, kind="stable").astype(np.int64)
        self._starts: Ints = np.searchsorted(
            units[self._order], np.arange(int(units.max(initial=-1)) + 2)
        ).astype(np.int64)

    @property
    def n_units(self) -> int:
        """Privacy units in all."""
        return len(self._starts) - 1

    @property
    def rate(self) -> float:
        """Probability with which a unit is taken in a step."""
        return min(1.0, self.expected / self.n_units)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which a unit is expected to be taken once."""
        return max(1, round(1 / self.rate))

    def init(self) -> State:
        """Before the first step."""
        return {"epoch": 0, "step": 0}

    def next(self, state: State, model: Any = None) -> tuple[Batch, State]:
        """Not one batch but several make a step: see `logical`."""
        raise TypeError("a Poisson source gives logical batches")

    def logical(self, state: State, model: Any = None) -> tuple[list[Batch], State]:
        """The pieces of the next step's batch, and the state after it."""
        step = state["step"]
        self.rows.epoch = state["epoch"]
        pieces = [self.rows.take(torch.from_numpy(rows)) for rows in self._pieces(step)]
        after = step + 1
        return pieces, {"epoch": after // self.steps_per_epoch, "step": after}

    def taken(self, step: int) -> npt.NDArray[np.bool_]:
        """Which units a step takes, `[U]`."""
        coins = self.stream.bernoulli("sampling", step, self.n_units, self.rate)
        return coins.numpy()

    def _rows_of(self, step: int) -> list[Ints]:
        """Rows of each unit that the step takes."""
        taken = np.flatnonzero(self.taken(step))
        found = [self._order[self._starts[u] : self._starts[u + 1]] for u in taken.tolist()]
        if any(len(rows) > self.most for rows in found):
            units = np.repeat(np.arange(len(found)), [len(rows) for rows in found])
            keep = self.stream.choose("rows", step, units, self.most)
            flat = np.concatenate(found)[keep]
            found = [flat[units[keep] == i] for i in range(len(found))]
        return found

    def _pieces(self, step: int) -> list[Ints]:
        found = self._rows_of(step)
        lengths = self.rows.lengths
        if lengths is not None:
            # units of like length share a piece: less padding
            found.sort(key=lambda rows: int(lengths[rows].max()))
        pieces: list[Ints] = []
        held: list[Ints] = []
        size = 0
        for rows in found:
            if held and size + len(rows) > self.piece:
                pieces.append(np.concatenate(held))
                held, size = [], 0
            held.append(rows)
            size += len(rows)
        if held:
            pieces.append(np.concatenate(held))
        return pieces
