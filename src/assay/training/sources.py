"""Sources give batches. What they do next is a function of an explicit, saved state."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from assay.files import derive_seed
from assay.training.batches import Batch

if TYPE_CHECKING:
    from assay.data.preprocessing import Encoded

State = dict[str, int]

#: rows are sorted by length within so many batches at most: nearly no padding, and still chance
MEGA = 50


class Source(Protocol):
    """Where a training stage's batches come from."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        ...

    def init(self) -> State:
        """The state before the first batch."""
        ...

    def next(self, state: State, model: Any) -> tuple[Batch, State]:
        """The next batch and the state after it; may look at the current model."""
        ...


@runtime_checkable
class LogicalSource(Protocol):
    """A source whose steps have as many batches as it decides, perhaps none."""

    def logical(self, state: State, model: Any) -> tuple[list[Batch], State]:
        """All batches of the next step, and the state after it."""
        ...


class RowSource:
    """Every row once an epoch, shuffled anew each epoch; rows of like length share a batch.

    The order of an epoch is a function of (seed, epoch) alone: a resumed run, in a new process with
    another hash seed, sees the same batches.

    Args:
        encoded: the split's rows as the network's inputs.
        targets: `[n]`.
        units: `[n]` privacy unit of each row.
        batch: rows a batch.
        seed: seed of the order.
        weights: `[n]` weights of rows, None for 1.
        pad_to: lengths are padded to a multiple of this.
    """

    def __init__(
        self,
        encoded: Encoded,
        targets: npt.NDArray[Any],
        units: npt.NDArray[np.int64],
        batch: int,
        seed: int,
        weights: npt.NDArray[np.float32] | None = None,
        pad_to: int = 8,
    ) -> None:
        self.encoded, self.batch, self.seed, self.pad_to = encoded, batch, seed, pad_to
        self.targets = torch.from_numpy(np.ascontiguousarray(targets))
        n = len(targets)
        self.weights = torch.ones(n) if weights is None else torch.from_numpy(weights)
        self.units = units
        self._one_row_a_unit = len(np.unique(units)) == n
        self.lengths = encoded.lengths() if encoded.offsets is not None else None
        self._dense = (
            {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in encoded.arrays.items()}
            if encoded.offsets is None
            else None
        )
        #: of the batch that is being made
        self.epoch = 0
        self._order: tuple[int, list[torch.Tensor]] | None = None
        self._ones = torch.ones(batch)
        self._range = torch.arange(batch)
        self._weighted = weights is not None
        #: row indices -> the inputs of those rows; replaced when a cached prefix feeds the network
        self.collate: Callable[[torch.Tensor], dict[str, torch.Tensor]] = self.plain_collate

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.targets) // self.batch)

    def init(self) -> State:
        """Before the first batch of the first epoch."""
        return {"epoch": 0, "position": 0}

    def next(self, state: State, model: Any = None) -> tuple[Batch, State]:
        """The next batch."""
        epoch, position = state["epoch"], state["position"]
        self.epoch = epoch
        batches = self._batches(epoch)
        batch = self.take(batches[position])
        position += 1
        after = {"epoch": epoch, "position": position}
        if position == len(batches):
            after = {"epoch": epoch + 1, "position": 0}
        return batch, after

    def take(self, rows: torch.Tensor) -> Batch:
        """The batch of the given rows."""
        n = len(rows)
        if self._one_row_a_unit:
            units, count = self._range[:n] if n <= self.batch else torch.arange(n), n
        else:
            _, inverse = np.unique(self.units[rows.numpy()], return_inverse=True)
            units = torch.from_numpy(inverse.astype(np.int64))
            count = int(units.max()) + 1
        even = not self._weighted and n <= self.batch
        return Batch(
            inputs=self.collate(rows),
            targets=self.targets[rows],
            weights=self._ones[:n] if even else self.weights[rows],
            rows=rows,
            units=units,
            n_units=count,
            plain=even and self._one_row_a_unit,
        )

    def plain_collate(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """The encoded inputs of rows."""
        if self._dense is not None:
            return {name: value[rows] for name, value in self._dense.items()}
        arrays = self.encoded.batch(rows.numpy(), pad_to=self.pad_to)
        return {name: torch.from_numpy(value) for name, value in arrays.items()}

    def _batches(self, epoch: int) -> list[torch.Tensor]:
        if self._order is None or self._order[0] != epoch:
            rng = np.random.default_rng(derive_seed(self.seed, "order", epoch))
            order = rng.permutation(len(self.targets))
            if self.lengths is None:
                batches = self._cut(order)
            else:
                chunks = self._bucketed(order, rng)
                batches = [batch for chunk in chunks for batch in self._cut(chunk)]
            if self.lengths is not None:
                # full batches only are shuffled: a short last batch among the first ones would
                # weigh its few rows as much as a full one while the rate is highest
                full = [b for b in batches if len(b) == self.batch]
                rest = [b for b in batches if len(b) != self.batch]
                batches = [full[i] for i in rng.permutation(len(full))] + rest
            self._order = (epoch, batches)
        return self._order[1]

    def _cut(self, order: npt.NDArray[np.int64]) -> list[torch.Tensor]:
        rows = torch.from_numpy(order)
        return [rows[start : start + self.batch] for start in range(0, len(rows), self.batch)]

    def _bucketed(
        self, order: npt.NDArray[np.int64], rng: np.random.Generator
    ) -> list[npt.NDArray[np.int64]]:
        assert self.lengths is not None
        # at least two such pieces, or few rows would meet the same neighbours in every epoch
        size = self.batch * max(1, min(MEGA, self.steps_per_epoch // 2))
        return [
            piece[np.argsort(self.lengths[piece], kind="stable")]
            for piece in (order[i : i + size] for i in range(0, len(order), size))
        ]
