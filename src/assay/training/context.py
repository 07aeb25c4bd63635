"""What a running stage is given."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from assay.claims import Claim, PlanContext
from assay.data.door import Door, LocalDoor
from assay.errors import ArtefactError, LoadError
from assay.files import derive_seed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from assay.data.dataset import Dataset
    from assay.models.model import Model
    from assay.privacy.randomness import Stream


class MetricsLog:
    """`metrics.jsonl`: a line a step or an epoch; no clock times, so that it is reproducible.

    A resumed run cuts the file back to the length its checkpoint recorded.
    """

    def __init__(self, path: Path | None, start: int | None = None) -> None:
        self.path = path
        #: length when the stage began; what lies beyond is of an attempt that was stopped
        self.start = self.size() if start is None else start
        self.lines: list[dict[str, Any]] = []

    def write(self, **values: Any) -> None:
        """Append one line.

        Raises:
            LoadError: the disk is full.
        """
        self.lines.append(values)
        if self.path is None:
            return
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(values, sort_keys=True, ensure_ascii=False) + "\n")
        except OSError as error:
            raise _full(self.path, error) from error

    def size(self) -> int:
        """Length of the file in bytes."""
        return self.path.stat().st_size if self.path is not None and self.path.exists() else 0

    def sync(self) -> int:
        """Make what was written survive a power cut; returns the length of the file in bytes.

        Raises:
            LoadError: the disk is full.
        """
        if self.path is not None and self.path.exists():
            try:
                with self.path.open("rb") as stream:
                    os.fsync(stream.fileno())
            except OSError as error:
                raise _full(self.path, error) from error
        return self.size()

    def cut(self, size: int) -> None:
        """Forget all that was written after the file had that length.

        Raises:
            ArtefactError: the file is shorter: it was changed.
        """
        if self.size() < size:
            raise ArtefactError(
                f"{self.size()} bytes, but it had {size} already: it was cut off or replaced",
                where=str(self.path),
                mend="restore the file, or start the run anew",
            )
        if self.path is not None and self.path.exists():
            with self.path.open("r+b") as stream:
                stream.truncate(size)


def _full(path: Path, error: OSError) -> LoadError:
    return LoadError(f"cannot write: {error.strerror}", where=str(path), mend="free some space")


class Progress(Protocol):
    """Tells a person how far a stage is."""

    def update(self, done: int, total: int, text: str = "") -> None:
        """`done` of `total`, and what just happened."""
        ...

    def say(self, text: str) -> None:
        """One line worth keeping on the screen."""
        ...


class Silent:
    """A progress that tells nobody."""

    def update(self, done: int, total: int, text: str = "") -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""


class Retrain(Protocol):
    """Makes of another data set what the stages before a stage made of the run's."""

    def __call__(
        self,
        dataset: Dataset,
        seed: int,
        start: str,
        *,
        min_steps: int = 0,
        told: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> Model:
        """Train anew.

        Args:
            dataset: the data.
            seed: of all chance.
            start: `pretrained`: the weights that the run began with; `scratch`: the same
                architecture, initialised.
            min_steps: each training stage takes at least so many optimiser steps and then settles
                its batch norms (see `assay.training.few`); 0 leaves stages as they are.
            told: is handed what each stage really used.
        """
        ...


@dataclass
class RunContext:
    """What a stage is given when it runs.

    Attributes:
        dataset: the data; opening a split is recorded in `dataset.opened`.
        plan: what the plan knew before this stage (`plan.task` is the task).
        seed: the recipe's seed.
        stage: index of the stage, part of every derived seed.
        threads: number of intra-op threads, fixed for the run.
        work: scratch folder of this stage (checkpoints, caches); None keeps nothing on disk.
        folder: the run's folder, None when there is none.
        metrics: where curves go.
        progress: tells the person.
        door: the one door for numbers that mix examples.
        retrain: makes the model that the stages before this one make of another data set
            (resampling audits, transfer curves, shadow models).
        tuning: folder of the timing cache, None to not keep timings.
        claims: what the stage claims.
        evidence: what it keeps for the report.
        used: what it recorded as used.
        secret: where private randomness of the stage is drawn from; None: from a key of its own in
            `work`.
        ended: called once the stage's model and record are safely on the disk.
    """

    dataset: Dataset
    plan: PlanContext
    seed: int = 0
    stage: int = 0
    threads: int = 1
    work: Path | None = None
    folder: Path | None = None
    metrics: MetricsLog = field(default_factory=lambda: MetricsLog(None))
    progress: Progress = field(default_factory=Silent)
    door: Door = field(default_factory=LocalDoor)
    retrain: Retrain | None = None
    tuning: Path | None = None
    claims: list[Claim] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)
    used: dict[str, Any] = field(default_factory=dict)
    secret: Stream | None = None
    ended: list[Callable[[], None]] = field(default_factory=list)

    @property
    def task(self) -> Any:
        """The task."""
        return self.plan.task

    def bounded_sum(
        self, name: str, values: npt.NDArray[np.float64], bound: float
    ) -> npt.NDArray[np.float64]:
        """A sum over privacy units, through the one door (see `assay.data.door.Door`)."""
        return self.door.bounded_sum(name, values, bound)

    def claim(self, claim: Claim) -> None:
        """State a claim about the model that the stage returns."""
        self.claims.append(claim)

    def keep(self, name: str, value: Any) -> None:
        """Keep data for the report (a confusion matrix, a curve): plain JSON."""
        self.evidence[name] = value

    def record(self, **values: Any) -> None:
        """Record what was really used (tuned precision, steps taken) in the stage's record."""
        self.used.update(values)

    def derive(self, *names: str | int) -> int:
        """A seed for one purpose of this stage."""
        return derive_seed(self.seed, self.stage, *names)
