"""Confidence intervals: bootstrap over privacy units, Wilson, corrected resampled t.

Rows of one unit rise and fall together, so units are what is resampled: each resample draws U
units with replacement, which is a multinomial weight on every unit, and metrics are functions of
the weights. Nothing is copied, and 2,000 resamples are a few matrix operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from assay.audit.measures.metrics import METRICS, Floats, Ints, Scored

Method = Literal["percentile", "bca"]
#: (weights [B, N]) -> metric name -> [B]
Statistics = Callable[[Floats], Mapping[str, Floats]]

#: entries of one block of weights: 32 MB
_BLOCK = 4_000_000
#: with more units than this the acceleration of BCa comes from leaving out groups of units
_JACKKNIFE = 400
#: an interval is given only when the metric is defined on at least this share of the resamples
_DEFINED = 0.9


def statistics_of(names: Sequence[str], scored: Scored) -> Statistics:
    """The named metrics of some predictions as functions of row weights."""
    return lambda weights: {name: METRICS[name].value(scored, weights) for name in names}


def unit_weights(units: Ints, resamples: int, seed: int) -> Iterator[Floats]:
    """Blocks `[b, N]` of row weights of bootstrap resamples of units; the b add to `resamples`.

    Args:
        units: `[N]` dense index of each row's unit, `0..U-1`.
        resamples: how many.
        seed: equal seeds give equal resamples.
    """
    n, u = len(units), int(units.max()) + 1
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // max(n, u))
    for start in range(0, resamples, block):
        b = min(block, resamples - start)
        drawn = rng.integers(0, u, size=(b, u)) + np.arange(b)[:, None] * u
        counts = np.bincount(drawn.ravel(), minlength=b * u).reshape(b, u).astype(np.float64)
        yield counts[:, units]


def bootstrap(
    statistics: Statistics,
    units: Ints,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    method: Method = "percentile",
) -> dict[str, tuple[float, float] | None]:
    """Bootstrap interval of each statistic.

    Args:
        statistics: metrics as functions of weights.
        units: `[N]` dense index of each row's privacy unit.
        resamples: number of resamples.
        seed: equal seeds give equal intervals.
        level: confidence level.
        method: `percentile`, or `bca` (bias-corrected and accelerated; Efron 1987).

    Returns:
        name -> (lower, upper); None with a single unit, or where the metric is undefined on more
        than a tenth of the resamples.
    """
    blocks = [statistics(weights) for weights in unit_weights(units, resamples, seed)]
    draws = {name: np.concatenate([b[name] for b in blocks]) for name in blocks[0]}
    single = int(units.max()) == 0
    tails = dict.fromkeys(draws, (0.5 - level / 2, 0.5 + level / 2))
    if method == "bca" and not single:
        tails = _bca_tails(statistics, draws, units, level)
    out: dict[str, tuple[float, float] | None] = {}
    for name, values in draws.items():
        defined = values[np.isfinite(values)]
        if single or len(defined) < _DEFINED * len(values) or not len(defined):
            out[name] = None
        else:
            low, high = np.quantile(defined, tails[name])
            out[name] = (float(low), float(high))
    return out


def _bca_tails(
    statistics: Statistics, draws: Mapping[str, Floats], units: Ints, level: float
) -> dict[str, tuple[float, float]]:
    from scipy.stats import norm

    u = int(units.max()) + 1
    groups = min(u, _JACKKNIFE)
    member = (np.arange(u) * groups // u)[units]
    plain = statistics(np.ones((1, len(units))))
    left: list[Mapping[str, Floats]] = []
    step = max(1, _BLOCK // len(units))
    for start in range(0, groups, step):
        out = np.arange(start, min(start + step, groups))
        left.append(statistics((member[None, :] != out[:, None]).astype(np.float64)))
    tails = {}
    z = norm.ppf([0.5 - level / 2, 0.5 + level / 2])
    for name, values in draws.items():
        defined, theta = values[np.isfinite(values)], plain[name][0]
        jack = np.concatenate([part[name] for part in left])
        jack = jack[np.isfinite(jack)]
        spread = jack.mean() - jack if len(jack) else np.zeros(1)
        scale = 6.0 * float((spread**2).sum()) ** 1.5
        acceleration = float((spread**3).sum()) / scale if scale > 0 else 0.0
        below = 0.5
        if len(defined):
            below = float(np.mean(defined < theta) + 0.5 * np.mean(defined == theta))
        edge = 0.5 / max(len(defined), 1)
        bias = norm.ppf(min(max(below, edge), 1.0 - edge))
        moved = norm.cdf(bias + (bias + z) / (1.0 - acceleration * (bias + z)))
        tails[name] = (float(moved[0]), float(moved[1]))
    return tails


def wilson(hits: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share of `n` independent rows (Wilson 1927).

    >>> tuple(round(x, 4) for x in wilson(8, 10))
    (0.4902, 0.9433)
    """
    from scipy.stats import norm

    z = float(norm.ppf(0.5 + level / 2))
    p = hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    return max(0.0, middle - half), min(1.0, middle + half)


def corrected_t(
    scores: npt.ArrayLike, test_share: float, level: float = 0.95
) -> tuple[float, float] | None:
    """Interval of the mean of scores from repeated resampling, for a fresh training and test set.

    The variance of J scores whose training sets overlap is taken as `(1/J + test/train) * s^2`
    (Nadeau and Bengio 2003, Inference for the generalization error, Machine Learning 52): an
    approximation, wider than treating the folds as independent.

    Args:
        scores: `[J]`, one a fold and repeat.
        test_share: test rows / training rows of one fold.
        level: confidence level.

    Returns:
        (lower, upper), or None for a single score.
    """
    from scipy.stats import t

    values = np.asarray(scores, dtype=np.float64)
    count = len(values)
    if count < 2:
        return None
    half = float(t.ppf(0.5 + level / 2, count - 1)) * float(
        np.sqrt((1.0 / count + test_share) * values.var(ddof=1))
    )
    mean = float(values.mean())
    return mean - half, mean + half


@dataclass(frozen=True)
class Difference:
    """A metric of two models on the same rows: `difference` is b - a, with its paired interval."""

    metric: str
    a: float
    b: float
    difference: float
    interval: tuple[float, float] | None
    level: float
    n: int

    @property
    def differs(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.interval is not None and not self.interval[0] <= 0.0 <= self.interval[1]


def compare(
    a_scores: Scored,
    b_scores: Scored,
    targets: npt.NDArray[np.generic],
    units: Ints,
    *,
    metrics: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    method: Method = "percentile",
) -> list[Difference]:
    """Paired differences of two models' metrics on the same rows.

    Both models are weighed by the same resamples, so what is hard for both cancels out.

    Args:
        a_scores: predictions of the first model.
        b_scores: predictions of the second, for the same rows in the same order.
        targets: `[N]` the truth (both must have been scored against it).
        units: `[N]` dense index of each row's privacy unit.
        metrics: names; by default all that apply.
        resamples: of the bootstrap.
        seed: equal seeds give equal intervals.
        level: confidence level.
        method: `percentile` or `bca`.

    Raises:
        ValueError: the two do not describe the same rows.
    """
    from assay.audit.measures.metrics import applicable

    same = np.array_equal(a_scores.targets, targets) and np.array_equal(b_scores.targets, targets)
    if not same or len(units) != len(targets) or a_scores.classes != b_scores.classes:
        raise ValueError("the two models were not scored on the same rows")
    names = tuple(metrics) if metrics is not None else applicable(a_scores.classes)
    of_a, of_b = statistics_of(names, a_scores), statistics_of(names, b_scores)

    def paired(weights: Floats) -> dict[str, Floats]:
        first, second = of_a(weights), of_b(weights)
        return {name: second[name] - first[name] for name in names}

    ones = np.ones((1, len(targets)))
    plain_a, plain_b = of_a(ones), of_b(ones)
    intervals = bootstrap(paired, units, resamples=resamples, seed=seed, level=level, method=method)
    return [
        Difference(
            metric=name,
            a=float(plain_a[name][0]),
            b=float(plain_b[name][0]),
            difference=float(plain_b[name][0] - plain_a[name][0]),
            interval=intervals[name],
            level=level,
            n=int(units.max()) + 1,
        )
        for name in names
        if np.isfinite(plain_a[name][0]) and np.isfinite(plain_b[name][0])
    ]
