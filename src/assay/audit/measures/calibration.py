"""How well probabilities tell how often they are right, and sets that are right often enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from assay.audit.measures.intervals import Statistics, bootstrap, unit_weights, wilson
from assay.audit.measures.metrics import Floats, Ints

Method = Literal["lac", "aps"]


@dataclass(frozen=True)
class Judged:
    """What a model was sure of, and whether it was right.

    Attributes:
        confidence: `[N]` probability of the most probable class.
        right: `[N]` 1.0 where that class is the true one.
    """

    confidence: Floats
    right: Floats


def judged(probabilities: Floats, targets: Ints) -> Judged:
    """From probabilities `[N, K]` and true classes `[N]`."""
    chosen = probabilities.argmax(axis=1)
    return Judged(probabilities.max(axis=1), (chosen == targets).astype(np.float64))


def equal_width(confidence: Floats, bins: int) -> Ints:
    """The bin of each row among `bins` of equal width over (0, 1], `[N]`."""
    found = np.ceil(np.asarray(confidence) * bins).astype(np.int64) - 1
    return np.clip(found, 0, bins - 1)


def equal_mass(confidence: Floats, bins: int) -> Ints:
    """The bin of each row among `bins` of as many rows each, equal confidences together, `[N]`."""
    edges = np.quantile(confidence, np.linspace(0, 1, bins + 1)[1:-1])
    return np.searchsorted(edges, confidence, side="left").astype(np.int64)


def error_of(bins: Ints, found: Judged, count: int) -> Statistics:
    """The expected calibration error as a function of row weights.

    `sum over bins of |sum of (right - confidence)| / N` (Naeini et al. 2015; Guo et al. 2017, arXiv
    1706.04599).
    """
    gaps = np.zeros((len(bins), count))
    gaps[np.arange(len(bins)), bins] = found.right - found.confidence

    def value(weights: Floats) -> dict[str, Floats]:
        total: Floats = np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1)
        return {"ece": total}

    return value


@dataclass(frozen=True)
class CalibrationError:
    """An expected calibration error with its interval and what chance alone would give.

    Attributes:
        value: the error, in [0, 1].
        interval: see `shifted`; None where there is one unit. It is of the error that so many rows
            show on average, whose floor is `null_mean`.
        null_mean: mean error of a perfectly calibrated model with these very confidences: the error
            is an absolute value, so that it is above zero even then.
        null_high: 95th percentile of that.
    """

    value: float
    interval: tuple[float, float] | None
    null_mean: float
    null_high: float


def calibration_error(
    found: Judged, bins: Ints, count: int, units: Ints, *, resamples: int, seed: int
) -> CalibrationError:
    """The error over given bins, its shifted bootstrap over units, and its null."""
    statistic = error_of(bins, found, count)
    value = float(statistic(np.ones((1, len(bins))))["ece"][0])
    span = None
    if resamples and int(units.max()) > 0:
        blocks = [statistic(w)["ece"] for w in unit_weights(units, resamples, seed)]
        span = shifted(np.concatenate(blocks), value)
    rng = np.random.default_rng(seed)
    nulls = []
    for _ in range(200):
        right = (rng.random(len(bins)) < found.confidence).astype(np.float64)
        chance = error_of(bins, Judged(found.confidence, right), count)
        nulls.append(float(chance(np.ones((1, len(bins))))["ece"][0]))
    return CalibrationError(value, span, float(np.mean(nulls)), float(np.quantile(nulls, 0.95)))


def shifted(draws: Floats, value: float, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of resamples `[B]`, moved by their bias and kept within [0, 1].

    Resampling adds noise a second time, and the error is a sum of absolute values, so that its
    resamples lie above it: their percentiles often leave out the very value that was measured.
    Moved back by `mean of the resamples - value` they hold it (Efron and Tibshirani 1993, chapter
    10, estimate the bias so).
    """
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2])
    bias = float(draws.mean()) - value
    return max(0.0, float(low) - bias), min(1.0, float(high) - bias)


def reliability(found: Judged, bins: int) -> list[dict[str, Any]]:
    """Bins of equal width that hold rows: confidence, accuracy with Wilson's interval, n."""
    place, out = equal_width(found.confidence, bins), []
    for b in range(bins):
        rows = place == b
        n = int(rows.sum())
        if n:
            hits = float(found.right[rows].sum())
            out.append(
                {
                    "low": b / bins,
                    "high": (b + 1) / bins,
                    "confidence": float(found.confidence[rows].mean()),
                    "accuracy": hits / n,
                    "n": n,
                    "ci": list(wilson(hits, n)),
                }
            )
    return out


def scores(probabilities: Floats, method: Method) -> Floats:
    """How odd each class would be for each row, `[N, K]`.

    `lac`: one minus its probability (Sadinle et al. 2019, arXiv 1609.00451). `aps`: the mass of
    all classes that are at least as probable (Romano et al. 2020, arXiv 2006.02544, without its
    randomisation, so that sets are a little larger).
    """
    if method == "lac":
        return 1.0 - probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    mass = np.cumsum(np.take_along_axis(probabilities, order, axis=1), axis=1)
    out = np.empty_like(probabilities)
    np.put_along_axis(out, order, mass, axis=1)
    return out


def threshold(own: Floats, alpha: float) -> float:
    """The `ceil((n + 1)(1 - alpha))`-th smallest of the true classes' scores `[n]`.

    Infinite where there are too few rows for that level: every class is in every set then.
    """
    rank = int(np.ceil((len(own) + 1) * (1 - alpha)))
    return float(np.sort(own)[rank - 1]) if rank <= len(own) else float("inf")


def set_spans(
    hits: Floats, sizes: Floats, units: Ints, *, resamples: int, seed: int
) -> tuple[dict[str, tuple[float, float] | None], dict[str, str]]:
    """Intervals of `coverage` and mean `size` of sets, and how each was obtained.

    Where every row is a unit: Clopper and Pearson's, and a normal approximation. Rows of one unit
    are not independent: else both are bootstrapped over units.

    Args:
        hits: `[N]` 1.0 where the set holds the true class.
        sizes: `[N]` classes in the set.
        units: `[N]` dense index of each row's unit.
        resamples: of the bootstrap; 0 gives no interval where one is needed.
        seed: of the bootstrap.
    """
    n, count = len(hits), int(units.max()) + 1
    if count == n:
        half = 1.96 * float(sizes.std(ddof=1)) / n**0.5 if n > 1 else 0.0
        mean = float(sizes.mean())
        exact = clopper_pearson(int(hits.sum()), n)
        return (
            {"coverage": exact, "size": (mean - half, mean + half) if n > 1 else None},
            {"coverage": "Clopper and Pearson", "size": "normal approximation"},
        )
    spans: dict[str, tuple[float, float] | None] = {"coverage": None, "size": None}
    if resamples:

        def means(weights: Floats) -> dict[str, Floats]:
            total = weights.sum(axis=1)
            return {"coverage": weights @ hits / total, "size": weights @ sizes / total}

        spans = bootstrap(means, units, resamples=resamples, seed=seed)
    how = f"percentile bootstrap over units, {resamples} resamples"
    return spans, {name: how if spans[name] else "" for name in spans}


def clopper_pearson(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share of `n` independent rows (Clopper and Pearson 1934).

    >>> tuple(round(x, 4) for x in clopper_pearson(8, 10))
    (0.4439, 0.9748)
    """
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, n - hits + 1))
    high = 1.0 if hits == n else float(beta.ppf(1 - tail, hits + 1, n - hits))
    return low, high


@dataclass(frozen=True)
class Sets:
    """Prediction sets of rows.

    Attributes:
        limit: classes whose score is at most this are in the set.
        members: `[N, K]` whether each class is in each row's set.
        hits: `[N]` 1.0 where the set holds the true class.
    """

    limit: float
    members: npt.NDArray[np.bool_]
    hits: Floats

    @property
    def covered(self) -> int:
        """Rows whose set holds the true class."""
        return int(self.hits.sum())


def conformal(
    calibration: tuple[Floats, Ints], audited: tuple[Floats, Ints], alpha: float, method: Method
) -> Sets:
    """Split conformal prediction: sets that hold the true class with probability `1 - alpha`, for
    rows that are exchangeable with those of the calibration split (Vovk et al. 2005).

    Args:
        calibration: probabilities `[n, K]` and true classes `[n]` that set the limit.
        audited: probabilities `[N, K]` and true classes `[N]` that are judged.
        alpha: in (0, 1).
        method: see `scores`.
    """
    given, true = calibration
    limit = threshold(scores(given, method)[np.arange(len(true)), true], alpha)
    members = scores(audited[0], method) <= limit
    hits = members[np.arange(len(audited[1])), audited[1]].astype(np.float64)
    return Sets(limit, members, hits)
