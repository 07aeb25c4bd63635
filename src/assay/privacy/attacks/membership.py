"""Membership inference: how well a score tells what was trained on from what was not.

Scores are higher for what looks like a member. One score a privacy unit: rows of one unit are
averaged first (`per_unit`), so that what is counted is independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: with fewer shadow models, one variance is estimated for all units
_FEW_SHADOWS = 64
#: a Gaussian of shadow scores is at least so wide, relative to the spread of all of them
_NARROWEST = 1e-6


def class_scores(probabilities: npt.ArrayLike, targets: npt.ArrayLike) -> Floats:
    """Logit of the true class's probability: `log p_y - log(1 - p_y)`.

    The rest is summed over the other classes, not taken from 1: where the model is sure, `1 - p_y`
    would round to nothing (Carlini et al. 2022, arXiv 2112.03570, section VI-A).

    Args:
        probabilities: `[N, K]`.
        targets: `[N]` class index of each row.

    Returns:
        `[N]`, finite.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    y = np.asarray(targets, dtype=np.int64)
    tiny = np.finfo(np.float64).tiny
    rows = np.arange(len(p))
    others = p.copy()
    others[rows, y] = 0.0
    found: Floats = np.log(np.maximum(p[rows, y], tiny)) - np.log(
        np.maximum(others.sum(axis=1), tiny)
    )
    return found


def value_scores(values: npt.ArrayLike, targets: npt.ArrayLike, scale: float = 1.0) -> Floats:
    """Minus the squared error, `[N]`, in units of `scale` (the label's standard deviation)."""
    apart = (np.asarray(values, np.float64) - np.asarray(targets, np.float64)) / scale
    found: Floats = -np.square(apart)
    return found


def per_unit(scores: Floats, units: Ints) -> Floats:
    """Mean score of each unit's rows.

    Args:
        scores: `[..., N]`.
        units: `[N]` dense index of each row's unit.

    Returns:
        `[..., U]`.
    """
    count = int(units.max()) + 1
    flat = scores.reshape(-1, scores.shape[-1])
    sums = np.stack([np.bincount(units, weights=row, minlength=count) for row in flat])
    means: Floats = sums / np.bincount(units, minlength=count)
    return means.reshape(*scores.shape[:-1], count)


def residuals(scores: Floats, reference: Floats) -> Floats:
    """What of the scores a reference does not tell: less their least-squares line on it, `[U]`."""
    away = reference - reference.mean()
    spread = float(np.square(away).sum())
    slope = float((away * scores).sum()) / spread if spread > 0 else 0.0
    rest: Floats = scores - scores.mean() - slope * away
    return rest


# -- what a score is worth ------------------------------------------------------------------------


@dataclass(frozen=True)
class Rate:
    """A number between 0 and 1 and its interval."""

    value: float
    interval: tuple[float, float]


def auc(members: Floats, others: Floats, level: float = 0.95) -> Rate:
    """Area under the ROC curve: how often a member scores above another, ties counting half.

    The interval is DeLong's (DeLong et al. 1988, Biometrics 44), on the logit scale. Where the
    estimated variance is 0 it says nothing: then, if all pairs are in (or against) the order,
    `(alpha / 2) ** (1 / pairs)` of as many disjoint pairs as there are, else Hoeffding's (1963).

    Args:
        members: `[m]` scores of members, m >= 1.
        others: `[n]` scores of non-members, n >= 1.
        level: confidence level.
    """
    from scipy.stats import norm, rankdata

    m, n = len(members), len(others)
    ranks = rankdata(np.concatenate([members, others]))
    above = (ranks[:m] - rankdata(members)) / n  # share of others below each member
    below = 1.0 - (ranks[m:] - rankdata(others)) / m
    value = float(above.mean())
    variance = sum(float(v.var(ddof=1)) / len(v) for v in (above, below) if len(v) > 1)
    pairs, alpha = min(m, n), 1 - level
    if variance <= 1e-15 or not 0 < value < 1 or pairs < 2:
        edge = (alpha / 2) ** (1 / pairs)
        half = math.sqrt(math.log(2 / alpha) / (2 * pairs))
        low = edge if value == 1 else max(0.0, value - half)
        high = 1 - edge if value == 0 else min(1.0, value + half)
        return Rate(value, (low, high))
    middle = math.log(value / (1 - value))
    half = float(norm.ppf(0.5 + level / 2)) * math.sqrt(variance) / (value * (1 - value))
    low, high = (
        1 / (1 + math.exp(-min(700.0, max(-700.0, x)))) for x in (middle - half, middle + half)
    )
    return Rate(value, (low, high))


def roc(members: Floats, others: Floats) -> tuple[Floats, Floats]:
    """(false-positive rates, true-positive rates), from (0, 0) to (1, 1), a point a threshold."""
    scores = np.concatenate([members, others])
    is_member = np.concatenate([np.ones(len(members)), np.zeros(len(others))])
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(is_member[order])[ends]
    alarms = ends + 1 - hits
    start = np.zeros(1)
    return (
        np.concatenate([start, alarms / len(others)]),
        np.concatenate([start, hits / len(members)]),
    )


def advantage(members: Floats, others: Floats, level: float = 0.95) -> Rate:
    """The greatest TPR - FPR of any threshold (Yeom et al. 2018, arXiv 1709.01604).

    Chance alone makes it positive. The interval allows for that: both distributions lie within
    their Dvoretzky-Kiefer-Wolfowitz bands (Massart 1990), whatever the threshold.
    """
    alarms, hits = roc(members, others)
    value = float((hits - alarms).max())
    half = sum(math.sqrt(math.log(4 / (1 - level)) / (2 * len(v))) for v in (members, others))
    return Rate(value, (max(0.0, value - half), min(1.0, value + half)))


def tpr_at(members: Floats, others: Floats, fpr: float, level: float = 0.95) -> Rate:
    """True-positive rate at the lowest threshold that calls at most `fpr` of the others members.

    The interval is that of Clopper and Pearson (1934) for a threshold that is given.

    Args:
        members: `[m]` scores.
        others: `[n]` scores; with fewer than `1 / fpr` of them none is called a member.
        fpr: in [0, 1].
        level: confidence level.
    """
    allowed = math.floor(fpr * len(others) + 1e-9)
    falling = np.sort(others)[::-1]
    hits = len(members)
    if allowed < len(others):
        hits = int((members > falling[allowed]).sum())
    return Rate(hits / len(members), clopper_pearson(hits, len(members), level))


def clopper_pearson(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a binomial's probability (Clopper and Pearson 1934).

    >>> tuple(round(x, 4) for x in clopper_pearson(0, 10))
    (0.0, 0.3085)
    """
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, n - hits + 1))
    high = 1.0 if hits == n else float(beta.ppf(1 - tail, hits + 1, n - hits))
    return low, high


# -- LiRA -----------------------------------------------------------------------------------------


def lira(
    observed: Floats,
    shadows: Floats,
    member: Bools,
    *,
    online: bool = True,
    global_variance: bool | None = None,
) -> Floats:
    """Likelihood-ratio score of each unit (LiRA; Carlini et al. 2022, arXiv 2112.03570).

    A unit's score under models that had it and under models that had it not is taken for two
    Gaussians. Online, the score is the log ratio of their densities at what the attacked model
    says; offline, only the second is known, and the score is the log probability that a model
    without the unit would say less.

    Args:
        observed: `[U]` scores under the attacked model.
        shadows: `[S, U]` scores under each shadow model.
        member: `[S, U]` whether the shadow model was trained on the unit.
        online: whether shadow models that had the unit are used.
        global_variance: one variance for all units (of each of the two kinds) instead of one a
            unit; by default where there are fewer than 64 shadow models.

    Returns:
        `[U]`, finite, higher for likelier members.

    Raises:
        ValueError: a unit is in no shadow model, or in every one.
    """
    from scipy.stats import norm

    common = len(shadows) < _FEW_SHADOWS if global_variance is None else global_variance
    width = _NARROWEST * max(1.0, float(shadows.std()))
    out_mean, out_std = _gaussians(shadows, ~member, common, width)
    if not online:
        found: Floats = norm.logcdf(np.clip((observed - out_mean) / out_std, -1e6, 1e6))
        return found
    in_mean, in_std = _gaussians(shadows, member, common, width)
    ratio: Floats = norm.logpdf(observed, in_mean, in_std) - norm.logpdf(
        observed, out_mean, out_std
    )
    return ratio


def _gaussians(shadows: Floats, chosen: Bools, common: bool, width: float) -> tuple[Any, Any]:
    counts = chosen.sum(axis=0)
    if not counts.all():
        raise ValueError("each unit must be in some shadow models and not in others")
    mean = np.where(chosen, shadows, 0.0).sum(axis=0) / counts
    squares = np.where(chosen, np.square(shadows - mean), 0.0)
    if common or (counts < 2).any():
        freedom = max(1, int(counts.sum()) - len(counts))
        return mean, max(width, math.sqrt(float(squares.sum()) / freedom))
    return mean, np.maximum(width, np.sqrt(squares.sum(axis=0) / (counts - 1)))
