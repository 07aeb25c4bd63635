"""Data sets to train on for an attack: random halves for shadow models, canaries by fair coins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from assay.errors import LoadError
from assay.files import derive_seed
from assay.privacy.attacks.membership import Bools, Floats, Ints, class_scores, value_scores

if TYPE_CHECKING:
    from assay.data.dataset import Dataset
    from assay.models.predictions import Predictions


def scores(told: Predictions, labels: npt.NDArray[Any], scale: float = 1.0) -> Floats:
    """How well predictions fit each row's label: what members do better at.

    Args:
        told: a model's predictions for N rows.
        labels: `[N]` class index, or value.
        scale: standard deviation of the label, for a regression.

    Returns:
        `[N]`: logit of the label's probability, or minus the squared error.
    """
    if told.probabilities is not None:
        return class_scores(told.probabilities, labels)
    assert told.values is not None
    return value_scores(told.values, labels, scale)


@dataclass(frozen=True)
class Shadows:
    """What shadow models are trained on.

    Attributes:
        rows: `[N]` positions in the table of all rows that take part, members first.
        inside: `[S, N]` whether the shadow model is trained on the row.
        sets: the S data sets; their `train` is a random half of the rows, other splits but the
            attacked one are as they were.
    """

    rows: Ints
    inside: Bools
    sets: tuple[Dataset, ...]


def shadow_sets(data: Dataset, split: str, count: int, seed: int) -> Shadows:
    """Random halves of the training rows and the attacked split's together.

    Each half has a complement that is also used, so that each row is in half of them. Units and
    groups stay whole. No half has more rows than `train`: rows of the attacked split that would
    be too many are left out.

    Args:
        data: `train` are the members.
        split: rows that the attacked model was not trained on.
        count: S, even.
        seed: decides the halves.

    Raises:
        LoadError: too few rows or units for two halves.
    """
    members = data.positions("train")
    largest = int(data.blocks.among(members).sizes.max(initial=1))
    others = _at_most(data, data.positions(split), len(members) - 2 * largest, seed)
    rows = np.concatenate([members, others])
    blocks = data.blocks.among(rows)
    if not len(others) or len(blocks) < 4:
        raise LoadError(
            "too few rows or units to halve for shadow models",
            where=f"data {data.name}",
            mend="leave lira out of audit.privacy.attacks, or give more data",
        )
    kept = {n: p for n, p in data.splits.items() if n not in ("train", split)}
    inside = np.zeros((count, len(rows)), dtype=np.bool_)
    for pair in range(count // 2):
        half = _half(blocks.sizes, derive_seed(seed, "half", pair))[blocks.of]
        inside[2 * pair], inside[2 * pair + 1] = half, ~half
    sets = tuple(data.with_splits({"train": np.sort(rows[own]), **kept}) for own in inside)
    return Shadows(rows, inside, sets)


def _at_most(data: Dataset, rows: Ints, most: int, seed: int) -> Ints:
    """Whole blocks of some rows, drawn until there would be more than `most` rows."""
    blocks = data.blocks.among(rows)
    order = np.random.default_rng([seed, 1]).permutation(len(blocks))
    kept = np.zeros(len(blocks), dtype=np.bool_)
    kept[order[np.cumsum(blocks.sizes[order]) <= most]] = True
    return rows[kept[blocks.of]]


def _half(sizes: Ints, seed: int) -> Bools:
    """Random blocks that hold half of the rows, but for less than a block."""
    order = np.random.default_rng(seed).permutation(len(sizes))
    chosen = np.zeros(len(sizes), dtype=np.bool_)
    chosen[order[np.cumsum(sizes[order]) <= (int(sizes.sum()) + 1) // 2]] = True
    return chosen


@dataclass(frozen=True)
class Planted:
    """A data set with canaries.

    Attributes:
        dataset: `train` has the rows of all units but the canaries left out; the labels of
            canaries are wrong.
        rows: `[N]` positions in the table of all rows of canaries, in or out.
        unit: `[N]` the canary each of them belongs to, `0..m-1`.
        labels: `[N]` their wrong labels.
        included: `[m]` how the coins fell.
    """

    dataset: Dataset
    rows: Ints
    unit: Ints
    labels: npt.NDArray[Any]
    included: Bools


def plant(data: Dataset, count: int, seed: int) -> Planted:
    """Give some training units wrong labels, and leave each of these out by a fair coin.

    A canary is a whole privacy unit: what differential privacy hides. A wrong class is drawn from
    the others; for a regression canaries exchange their values. At most half of the training
    units become canaries, else there would be little left to learn.

    Args:
        data: `train` is what the canaries are made of.
        count: of canaries asked for.
        seed: decides which units, labels and coins.

    Raises:
        LoadError: fewer than four training units.
    """
    random = np.random.default_rng([seed, 0])
    rows = data.positions("train")
    _, unit = np.unique(data.unit_of[rows], return_inverse=True)
    units = int(unit.max(initial=-1)) + 1
    if units < 4:
        raise LoadError(
            f"{units} training units are too few for canaries",
            where=f"data {data.name}",
            mend="leave canaries out of audit.privacy.attacks, or give more data",
        )
    chosen = random.permutation(units)[: min(count, units // 2)]
    place = np.full(units, -1, dtype=np.int64)
    place[chosen] = np.arange(len(chosen))
    mine = place[unit] >= 0
    labels = _wrong(data, rows[mine], random)
    included = random.random(len(chosen)) < 0.5
    kept = ~mine
    kept[mine] = included[place[unit[mine]]]
    planted = data.relabelled(rows[mine], labels)
    planted = planted.with_splits({**data.splits, "train": rows[kept]})
    return Planted(planted, rows[mine], place[unit[mine]], labels, included)


def _wrong(data: Dataset, rows: Ints, random: np.random.Generator) -> npt.NDArray[Any]:
    true = data.labels[rows]
    if data.classes is None:
        order = random.permutation(len(rows))
        wrong = np.empty_like(true)
        wrong[order] = true[np.roll(order, 1)]
        return wrong
    many = len(data.classes)
    return (true + random.integers(1, many, size=len(true))) % many
