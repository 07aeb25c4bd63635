"""Statistics of a table when the sums that the door gives are noised.

Every question has a bound that holds whatever the values are, and every answer is made fit for use:
a spread is positive, a count not below what noise alone gives. What the schema declares still costs
nothing; what it leaves open costs

| left open | asked |
| --- | --- |
| `bounds` of a number or a time | its range, one question; mean and spread, one for all columns |
| `missing` | nothing: a feature says where it is missing |
| `categories` | refused: which values there are tells who is there |
| the targets of a regression | their range, and mean and spread: two questions |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from assay.errors import UsageError

if TYPE_CHECKING:
    from assay.data.schema import Column

Floats = npt.NDArray[np.float64]
#: asks the door: (name, values of rows `[N, D]`, bound of a unit) -> sums `[D]`
Total = Callable[[str, Floats, float], Floats]

#: magnitudes told apart: from 4^-12 to 4^20, each four times the one before
_LOW, _HIGH = -12, 20
_SCALES = 4.0 ** np.arange(_LOW, _HIGH + 1)
#: ends of the bins of a range, from the most negative to the most positive; one bin is around 0
_EDGES = np.concatenate([-_SCALES[::-1], _SCALES])
#: how many standard deviations of the noise a count must exceed to be believed
_BELIEVED = 5.0


def questions(columns: Iterable[Column], regression: bool) -> int:
    """How many questions fitting will ask of a noised door.

    Args:
        columns: the features.
        regression: whether the targets are numbers.
    """
    ranges = sum(c.kind in ("numeric", "time") and c.bounds is None for c in columns)
    return ranges + (ranges > 0) + 2 * regression


def check(columns: Iterable[tuple[str, Column]], where: str) -> None:
    """Refuse to find categories in private rows, before anything is asked.

    Raises:
        UsageError: a column of categories declares none.
    """
    for name, column in columns:
        if column.kind == "categorical" and column.categories is None:
            raise UsageError(
                f"which categories the column {name!r} has would be read from private rows, and "
                "a rare one names a person",
                where=where,
                mend=f"declare them: 'columns: {{{name}: {{categories: [...]}}}}', "
                f"or leave it out with 'drop: [{name}]'",
            )


def value_range(
    total: Total, name: str, column: str | None, values: Floats, noise: float, where: str
) -> tuple[float, float]:
    """An interval that holds most values of a column, from noisy counts of magnitudes.

    Bins are powers of four with a sign, whatever the data; the interval reaches from the first to
    the last whose noisy count exceeds five standard deviations of the noise. One question with
    bound 1. Values of fewer units than that at either end lie outside.

    Args:
        total: asks the door.
        name: of the question.
        column: the column, for the message; None where it is the target.
        values: `[N]`, NaN where missing.
        noise: the door's noise multiplier.
        where: name of the data, for the message.

    Raises:
        UsageError: no bin holds enough units to be seen through the noise.
    """
    known = ~np.isnan(values)
    bins = np.digitize(np.where(known, values, 0.0), _EDGES[1:-1])
    hot = (bins[:, None] == np.arange(len(_EDGES) - 1)) & known[:, None]
    counts = total(name, hot.astype(np.float64), 1.0)
    seen = np.flatnonzero(counts > _BELIEVED * noise)
    if not len(seen):
        what = "the target" if column is None else repr(column)
        declare = f"declare it: 'columns: {{{column}: {{bounds: [LOW, HIGH]}}}}', or "
        raise UsageError(
            f"too few units have a value of {what} for its range to be seen through the noise",
            where=where,
            mend=("" if column is None else declare) + "spend more privacy, or use more data",
        )
    return float(_EDGES[seen[0]]), float(_EDGES[seen[-1] + 1])


def moments(
    total: Total, name: str, values: Floats, ranges: Sequence[tuple[float, float]], noise: float
) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each column `[N, D]` within its range, one question for all.

    Values are clipped to the range and scaled to -1..1, so a unit's counts, values and squares have
    norm sqrt(3 D) at most. A spread is at least what the noise leaves unsaid; where the noise
    drowns the count itself, the column is taken as uniform over its range.
    """
    low, high = np.array(ranges).T
    centre, half = (low + high) / 2, (high - low) / 2
    known = ~np.isnan(values)
    scaled = np.where(known, np.clip((values - centre) / half, -1.0, 1.0), 0.0)
    bound = math.sqrt(3 * values.shape[1])
    answer = total(
        name, np.concatenate([known.astype(np.float64), scaled, np.square(scaled)], axis=1), bound
    )
    count, first, second = answer.reshape(3, -1)
    deviation = noise * bound
    drowned = count < _BELIEVED * deviation
    count = np.where(drowned, 1.0, count)
    mean = np.clip(first / count, -1.0, 1.0)
    spread = np.clip(second / count - np.square(mean), np.minimum(deviation / count, 1.0), 1.0)
    mean, spread = np.where(drowned, 0.0, mean), np.where(drowned, 1 / 3, spread)
    return centre + half * mean, half * np.sqrt(spread)
