"""Validation while training: the curve, early stopping, and the best weights so far."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from assay.training.parts import MODEL
from assay.training.sources import RowSource

if TYPE_CHECKING:
    from assay.training.loop import Job

#: a unit's loss counts up to this where private validation rows steer training
BOUND = 4.0
_QUESTION = "validation loss"


class Validation:
    """The validation split, its loss and score after each epoch, and what they decide.

    Args:
        source: the split's rows.
        stopping: the `early_stopping` setting, or None.
    """

    def __init__(self, source: RowSource, stopping: Any) -> None:
        self._source, self._stopping = source, stopping
        self._best: dict[str, torch.Tensor] = {}
        self._best_loss, self._waited = math.inf, 0
        self._asked = 0

    @classmethod
    def make(cls, job: Job) -> Validation | None:
        """The validation of a job; None where the data have no such split or none is wanted.

        A step that validation steers wants it, curves or not.
        """
        data = job.context.dataset
        wanted = job.stage.curves or any(getattr(p, "observes", False) for p in job.stage.step)
        if not wanted or "valid" not in data.splits or data.size("valid") == 0:
            return None
        preprocessing = job.model.preprocessing
        source = RowSource(
            preprocessing.encode(data.rows("valid")),
            preprocessing.learnt_targets(data.targets("valid")),
            data.units("valid"),
            64,
            0,
        )
        if job.feeder is not None and job.feeder.cached:
            job.feeder.feed_source(source)
        stopping = next((p for p in job.stage.step if p.part_name == "early_stopping"), None)
        return cls(source, stopping)

    def measure(self, job: Job) -> dict[str, float]:
        """Mean loss, and accuracy or RMSE, over the split."""
        lengths = self._source.encoded.lengths()
        order = np.argsort(-lengths, kind="stable")
        total, score, count = 0.0, 0.0, len(order)
        losses = np.zeros(count)
        for start in range(0, count, 64):
            batch = self._source.take(torch.from_numpy(order[start : start + 64].copy()))
            outputs = job.forward(batch.inputs)
            rows = job.context.task.row_losses(outputs, batch.targets)
            total += float(rows.sum())
            losses[order[start : start + 64]] = rows.double().numpy()
            if outputs.shape[1] > 1:
                score += float((outputs.argmax(1) == batch.targets).sum())
            else:
                score += float((outputs[:, 0] - batch.targets).square().sum())
        found = {"loss": round(total / count, 8)}
        if job.context.dataset.card.noised and job.steered:
            found["noised_loss"] = self._noised(job, losses)
        if job.model.classes is not None:
            return {**found, "accuracy": round(score / count, 8)}
        target = job.model.preprocessing.target
        scale = target.std if target is not None else 1.0
        return {**found, "rmse": round(math.sqrt(score / count) * scale, 8)}

    def _noised(self, job: Job, losses: np.ndarray[Any, Any]) -> float:
        """Mean loss of the units, through the one door: that is what may steer training."""
        units = self._source.units
        sizes = np.bincount(units)
        means = np.clip(np.bincount(units, weights=losses) / sizes, 0.0, BOUND)
        # a question of its own for each epoch: an answer's noise is never used twice
        name = f"{_QUESTION} {self._asked}"
        self._asked += 1
        (total,) = job.context.bounded_sum(name, means[:, None], BOUND)
        return round(float(total) / len(sizes), 8)

    def should_stop(self, job: Job, values: dict[str, float]) -> bool:
        """Early stopping's decision; remembers the best weights while it is on."""
        if self._stopping is None:
            return False
        loss = steering(values)
        if loss < self._best_loss - self._stopping.min_delta:
            self._best_loss, self._waited = loss, 0
            self._best = job.players[MODEL].kept()
        else:
            self._waited += 1
        return bool(self._waited >= self._stopping.patience)

    def keep_best(self, job: Job) -> None:
        """Go back to the best weights, where early stopping is on."""
        if self._best:
            job.players[MODEL].keep(self._best)
            job.context.record(best_valid_loss=self._best_loss)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """What a resumed run needs."""
        finite = self._best_loss if math.isfinite(self._best_loss) else None
        return self._best, {"best_loss": finite, "waited": self._waited, "asked": self._asked}

    def restore(
        self, tensors: dict[str, torch.Tensor], plain: dict[str, Any], door: Any = None
    ) -> None:
        """Undo everything since `state` was taken; what was asked of the door stays charged."""
        self._asked = plain.get("asked", 0)
        for number in range(self._asked):
            door.charge(f"{_QUESTION} {number}")
        self._best = tensors
        self._best_loss = math.inf if plain["best_loss"] is None else plain["best_loss"]
        self._waited = plain["waited"]


def steering(values: dict[str, float]) -> float:
    """The loss that may decide something: noised where the validation rows are private."""
    return values.get("noised_loss", values["loss"])
