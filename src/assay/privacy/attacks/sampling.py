"""Whether batches were sampled as the accountant assumes: Poisson sampling, at the rate it uses.

Tests of a record of who took part in which step. Each is exact: under Poisson sampling its p-value
is below x at most x of the time. Shuffled batches have a constant size, or use every unit once an
epoch; a wrong rate shows in the mean; batches of neighbours show in pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assay.privacy.attacks.membership import Bools, Floats


@dataclass(frozen=True)
class Checked:
    """One test of a record, as it came out.

    Attributes:
        name: `rate`, `batch_sizes`, `unit_counts`, `steps` or `units`.
        p_value: two-sided.
        seen: the statistic.
        expected: its mean under Poisson sampling.
    """

    name: str
    p_value: float
    seen: float
    expected: float


def failed(inclusion: Bools, rate: float, alarm: float = 1e-6) -> list[Checked]:
    """The tests that a record fails; `alarm` is the chance that a right record fails any.

    Args:
        inclusion: `[T, U]` whether the unit took part in the step; T, U >= 2.
        rate: the sampling rate that the accountant used, in (0, 1).
        alarm: probability of a false alarm over all tests together (Bonferroni).
    """
    found = examine(inclusion, rate)
    return [one for one in found if one.p_value < alarm / len(found)]


def examine(inclusion: Bools, rate: float) -> list[Checked]:
    """All tests of a record.

    - `rate`: all inclusions are binomial with T x U trials.
    - `batch_sizes`: sizes of batches are independent binomials with U trials: their squared
      distances from the mean are neither too small (constant batches) nor too great.
    - `unit_counts`: likewise how often each unit took part: in shuffled epochs equally often.
    - `steps`: a unit is in both of two neighbouring steps with probability rate^2.
    - `units`: two neighbouring units are in a step together with probability rate^2.

    Args:
        inclusion: `[T, U]` whether the unit took part in the step; T, U >= 2.
        rate: in (0, 1).

    Raises:
        ValueError: fewer than two steps or units, or a rate that is none.
    """
    record = np.asarray(inclusion, dtype=np.bool_)
    if record.ndim != 2 or min(record.shape) < 2 or not 0 < rate < 1:
        raise ValueError("expected inclusions [T, U] with T, U >= 2, and a rate in (0, 1)")
    steps, units = (record.shape[i] // 2 * 2 for i in (0, 1))
    return [
        _count("rate", record, rate),
        _dispersion("batch_sizes", record.sum(axis=1), record.shape[1], rate),
        _dispersion("unit_counts", record.sum(axis=0), record.shape[0], rate),
        _count("steps", record[0:steps:2] & record[1:steps:2], rate**2),
        _count("units", record[:, 0:units:2] & record[:, 1:units:2], rate**2),
    ]


def _count(name: str, happened: Bools, probability: float) -> Checked:
    from scipy.stats import binomtest

    seen = int(happened.sum())
    p = float(binomtest(seen, happened.size, probability).pvalue)
    return Checked(name, p, seen, happened.size * probability)


def _dispersion(name: str, counts: npt.NDArray[np.int64], trials: int, rate: float) -> Checked:
    """Sum of squared distances of independent binomials from their (rounded) mean, exactly."""
    from scipy.stats import binom

    middle = round(trials * rate)
    distance = np.arange(trials + 1) - middle
    weight = binom.pmf(np.arange(trials + 1), trials, rate)
    kept = np.abs(distance) <= np.abs(distance[weight > 1e-30]).max()
    one = np.bincount(np.square(distance[kept]), weights=weight[kept])
    seen = int(np.square(counts - middle).sum())
    total = _power(one.astype(np.float64), len(counts))
    below, above = float(total[: seen + 1].sum()), float(total[seen:].sum())
    expected = len(counts) * float((np.arange(len(one)) * one).sum())
    return Checked(name, min(1.0, max(0.0, 2 * min(below, above))), seen, expected)


def _power(one: Floats, count: int) -> Floats:
    """Distribution of the sum of `count` independent draws from a distribution on `0..`.

    It is cut where less than 1e-20 is left, 60 standard deviations above the mean.
    """
    values = np.arange(len(one))
    mean = float((values * one).sum())
    spread = float((values**2 * one).sum()) - mean**2
    most = math.ceil(count * mean + 60 * math.sqrt(count * max(spread, 1.0))) + len(one)
    length = min(count * (len(one) - 1) + 1, most)
    size = 1 << (length - 1).bit_length()
    found: Floats = np.fft.irfft(np.fft.rfft(one, size) ** count, size)[:length]
    return np.maximum(found, 0.0)
