"""Repeated cross-validation: every row is predicted by models that never saw its unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from assay.audit.measures.baselines import Baseline
from assay.audit.measures.metrics import Ints, Scored

if TYPE_CHECKING:
    from assay.data.dataset import Dataset


@dataclass(frozen=True)
class Pool:
    """All rows of a data set, whatever split they are in.

    Attributes:
        rows: `[N]` positions in the table, ascending.
        targets: `[N]` class index or value.
        units: `[N]` dense unit index.
        ids: N names.
    """

    rows: Ints
    targets: npt.NDArray[Any]
    units: Ints
    ids: list[str | int]


def pool(dataset: Dataset) -> Pool:
    """Every row of every split."""
    rows = np.sort(np.concatenate([dataset.positions(name) for name in dataset.splits]))
    merged = dataset.with_splits({"all": rows})
    return Pool(rows, merged.targets("all"), merged.units("all"), merged.ids("all"))


@dataclass(frozen=True)
class Fold:
    """One training of a repeated cross-validation.

    Attributes:
        index: from 0, over all repeats.
        repeat: from 0.
        dataset: splits `train`, `valid` (where the original has one) and `test`: this fold's rows.
        held: `[n]` positions of this fold's rows in the pool.
        test_share: rows in the fold / rows outside it.
    """

    index: int
    repeat: int
    dataset: Dataset
    held: Ints
    test_share: float


def folds(dataset: Dataset, rows: Pool, k: int, repeats: int, seed: int) -> list[Fold]:
    """The `k * repeats` folds of all rows, dealt anew in each repeat.

    Validation rows are held back in the share that they have of the original's training and
    validation rows.

    Args:
        dataset: shares its table with those given back.
        rows: `pool(dataset)`.
        k: folds a repeat.
        repeats: how often.
        seed: of the dealing.
    """
    valid = dataset.size("valid") if "valid" in dataset.splits else 0
    share = valid / (valid + dataset.size("train")) if valid else 0.0
    out: list[Fold] = []
    for repeat, _, part in dataset.folds(k, repeats, seed, valid=share):
        held = np.searchsorted(rows.rows, part.positions("test")).astype(np.int64)
        outside = len(rows.rows) - len(held)
        out.append(Fold(len(out), repeat, part, held, len(held) / outside))
    return out


@dataclass(frozen=True)
class OutOfFold:
    """What repeated cross-validation found.

    Attributes:
        each: predictions for each fold, in order.
        baselines: the baselines' predictions for each fold, name -> one a fold.
        mean: predictions for the whole pool, averaged over repeats.
        test_share: mean of test rows / training rows.
    """

    each: list[Scored]
    baselines: dict[str, list[Scored]]
    mean: Scored
    test_share: float


def out_of_fold(
    parts: list[Fold],
    rows: Pool,
    score: Callable[[Fold], Scored],
    judge: Callable[[Fold, Scored], list[Baseline]] | None,
) -> OutOfFold:
    """Predict every row by models that did not see it.

    Args:
        parts: the folds.
        rows: the pool they were dealt from.
        score: trains on a fold's `train` and predicts its `test`.
        judge: the same of the baselines, given the model's; None for none.
    """
    each: list[Scored] = []
    beside: dict[str, list[Scored]] = {}
    total: npt.NDArray[np.float64] | None = None
    for part in parts:
        scored = score(part)
        values = scored.predicted if scored.probabilities is None else scored.probabilities
        if total is None:
            total = np.zeros((len(rows.rows), *values.shape[1:]))
        total[part.held] += values
        each.append(scored)
        for baseline in judge(part, scored) if judge is not None else []:
            beside.setdefault(baseline.name, []).append(baseline.scored)
    assert total is not None
    total /= 1 + max(part.repeat for part in parts)
    if each[0].probabilities is None:
        mean = Scored(rows.targets, total)
    else:
        threshold = float(np.mean([s.threshold for s in each]))
        mean = Scored(rows.targets, total.argmax(axis=1), total, threshold)
    return OutOfFold(each, beside, mean, float(np.mean([p.test_share for p in parts])))
