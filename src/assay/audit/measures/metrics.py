"""Metrics of predictions, vectorised over weightings of the rows.

Every metric takes `weights` `[B, N]` and returns `[B]`: a row of ones gives the plain value, a row
of counts the value on a bootstrap resample. Where a metric is undefined (AUROC of one class) it
is NaN. All agree with scikit-learn's functions of the same name under `sample_weight`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: probabilities are kept this far from 0 and 1 in logarithms (float32's resolution)
_EPSILON = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Scored:
    """Predictions beside the truth.

    Attributes:
        targets: `[N]` class index, or value.
        probabilities: `[N, K]` for a classification, else None. Of two classes, 1 is positive.
        predicted: `[N]` index of the decided class, or predicted value.
        threshold: a row is called positive when its probability of class 1 reaches this.
    """

    targets: npt.NDArray[Any]
    predicted: npt.NDArray[Any]
    probabilities: Floats | None = None
    threshold: float = 0.5

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def classes(self) -> int:
        """K, or 0 for a regression."""
        return 0 if self.probabilities is None else self.probabilities.shape[1]

    def take(self, rows: Ints) -> Scored:
        """The same for some of the rows."""
        return Scored(
            self.targets[rows],
            self.predicted[rows],
            None if self.probabilities is None else self.probabilities[rows],
            self.threshold,
        )

    @property
    def _probabilities(self) -> Floats:
        assert self.probabilities is not None
        return self.probabilities


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full_like(below, np.nan), where=below > 0)


def _mean(weights: Floats, values: Floats) -> Floats:
    return _ratio(weights @ values, weights.sum(axis=1))


def _one_hot(index: npt.NDArray[np.generic], k: int) -> Floats:
    out: Floats = (index[:, None] == np.arange(k)[None, :]).astype(np.float64)
    return out


def accuracy(s: Scored, weights: Floats) -> Floats:
    """Share of rows whose decided class is the true one."""
    return _mean(weights, (s.predicted == s.targets).astype(np.float64))


def balanced_accuracy(s: Scored, weights: Floats) -> Floats:
    """Mean over the classes that occur of the share of their rows that are found."""
    truth = _one_hot(s.targets, s.classes)
    hits = weights @ (truth * (s.predicted == s.targets)[:, None])
    total = weights @ truth
    occurs = total > 0
    recall = np.where(occurs, hits / np.where(occurs, total, 1.0), 0.0)
    return _ratio(recall.sum(axis=1), occurs.sum(axis=1).astype(np.float64))


def macro_f1(s: Scored, weights: Floats) -> Floats:
    """Mean of 2 precision recall / (precision + recall) over classes that occur or are called."""
    truth, called = _one_hot(s.targets, s.classes), _one_hot(s.predicted, s.classes)
    hits = weights @ (truth * called)
    total = weights @ truth + weights @ called
    occurs = total > 0
    f1 = np.where(occurs, 2.0 * hits / np.where(occurs, total, 1.0), 0.0)
    return _ratio(f1.sum(axis=1), occurs.sum(axis=1).astype(np.float64))


def _ties(sorted_scores: Floats) -> tuple[Ints, Ints]:
    """First and last position of the group of equal scores that each position is in."""
    n = len(sorted_scores)
    starts = np.flatnonzero(np.r_[True, sorted_scores[1:] != sorted_scores[:-1]])
    group = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, n]))
    ends = np.r_[starts[1:], n] - 1
    return starts[group].astype(np.int64), ends[group].astype(np.int64)


def binary_auroc(scores: Floats, positive: npt.NDArray[np.bool_], weights: Floats) -> Floats:
    """Area under the ROC curve: P(score of a positive > of a negative) + P(equal) / 2.

    Args:
        scores: `[N]`.
        positive: `[N]`.
        weights: `[B, N]`.
    """
    order = np.argsort(scores, kind="stable")
    first, last = _ties(scores[order])
    negative = weights[:, order] * ~positive[order]
    below = np.zeros((len(weights), len(scores) + 1))
    np.cumsum(negative, axis=1, out=below[:, 1:])
    where = np.flatnonzero(positive[order])
    rank = 0.5 * (below[:, first[where]] + below[:, last[where] + 1])
    mass = weights[:, order[where]]
    won = np.einsum("bn,bn->b", mass, rank)
    return _ratio(won, mass.sum(axis=1) * below[:, -1])


def binary_auprc(scores: Floats, positive: npt.NDArray[np.bool_], weights: Floats) -> Floats:
    """Average precision: the sum over thresholds of (gain in recall) x precision."""
    order = np.argsort(-scores, kind="stable")
    _, last = _ties(scores[order])
    found = np.cumsum(weights[:, order] * positive[order], axis=1)
    called = np.cumsum(weights[:, order], axis=1)
    ends = np.unique(last)
    found, called = found[:, ends], called[:, ends]
    precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
    gain = np.diff(found, axis=1, prepend=0.0)
    return _ratio(np.einsum("bn,bn->b", gain, precision), found[:, -1])


def _one_against_rest(
    curve: Callable[[Floats, npt.NDArray[np.bool_], Floats], Floats], s: Scored, weights: Floats
) -> Floats:
    if s.classes == 2:
        return curve(s._probabilities[:, 1], s.targets == 1, weights)
    each = [curve(s._probabilities[:, k], s.targets == k, weights) for k in range(s.classes)]
    out: Floats = np.mean(each, axis=0)
    return out


def auroc(s: Scored, weights: Floats) -> Floats:
    """Area under the ROC curve; for more than two classes the mean of one against the rest."""
    return _one_against_rest(binary_auroc, s, weights)


def auprc(s: Scored, weights: Floats) -> Floats:
    """Average precision; for more than two classes the mean of one against the rest."""
    return _one_against_rest(binary_auprc, s, weights)


def _called(s: Scored) -> npt.NDArray[np.bool_]:
    called: npt.NDArray[np.bool_] = s._probabilities[:, 1] >= s.threshold
    return called


def _share(weights: Floats, of: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> Floats:
    return _ratio(weights @ (of & among).astype(np.float64), weights @ among.astype(np.float64))


def sensitivity(s: Scored, weights: Floats) -> Floats:
    """Share of the positives that are called positive at the operating point."""
    return _share(weights, _called(s), s.targets == 1)


def specificity(s: Scored, weights: Floats) -> Floats:
    """Share of the negatives that are called negative at the operating point."""
    return _share(weights, ~_called(s), s.targets == 0)


def ppv(s: Scored, weights: Floats) -> Floats:
    """Share of those called positive that are (precision)."""
    return _share(weights, s.targets == 1, _called(s))


def npv(s: Scored, weights: Floats) -> Floats:
    """Share of those called negative that are."""
    return _share(weights, s.targets == 0, ~_called(s))


def log_loss(s: Scored, weights: Floats) -> Floats:
    """Mean negative logarithm of the true class's probability, in nats."""
    own = s._probabilities[np.arange(len(s)), s.targets.astype(np.int64)]
    return _mean(weights, -np.log(np.clip(own, _EPSILON, 1.0)))


def brier(s: Scored, weights: Floats) -> Floats:
    """Mean squared error of the probabilities: of class 1 for two classes, else their sum.

    Brier 1950.
    """
    error = (s._probabilities - _one_hot(s.targets, s.classes)) ** 2
    return _mean(weights, error[:, 1] if s.classes == 2 else error.sum(axis=1))


def _error(s: Scored) -> Floats:
    out: Floats = s.predicted.astype(np.float64) - s.targets.astype(np.float64)
    return out


def rmse(s: Scored, weights: Floats) -> Floats:
    """Root of the mean squared error, in the label's unit."""
    return np.sqrt(_mean(weights, _error(s) ** 2))


def mae(s: Scored, weights: Floats) -> Floats:
    """Mean absolute error, in the label's unit."""
    return _mean(weights, np.abs(_error(s)))


def r2(s: Scored, weights: Floats) -> Floats:
    """1 - (squared error) / (squared deviation from the mean); undefined for a constant label."""
    truth = s.targets.astype(np.float64)
    truth = truth - truth.mean()  # keeps the difference of squares below exact
    total = weights.sum(axis=1)
    spread = weights @ truth**2 - (weights @ truth) ** 2 / np.maximum(total, 1e-300)
    spread = np.where(spread > 1e-12 * (weights @ truth**2), spread, 0.0)
    return 1.0 - _ratio(weights @ _error(s) ** 2, spread)


def median_ae(s: Scored, weights: Floats) -> Floats:
    """Median absolute error, in the label's unit; of an even count the mean of the middle two."""
    error = np.abs(_error(s))
    order = np.argsort(error, kind="stable")
    sums = np.cumsum(weights[:, order], axis=1)
    half = sums[:, -1:] / 2.0
    low = (sums < half).sum(axis=1)
    high = np.minimum((sums <= half).sum(axis=1), len(error) - 1)
    out: Floats = 0.5 * (error[order[low]] + error[order[high]])
    return np.where(sums[:, -1] > 0, out, np.nan)


@dataclass(frozen=True)
class Metric:
    """A metric and what must be known of it.

    Attributes:
        name: as in a recipe and, after `quality.`, in a claim.
        value: (scored, weights `[B, N]`) -> `[B]`.
        of: what it applies to.
        unit: its unit of measure.
        higher: whether more is better.
        counts: it is a ratio of counts of rows, so only a flipped decision changes it.
        at_threshold: it depends on the operating point.
    """

    name: str
    value: Callable[[Scored, Floats], Floats]
    of: Literal["classification", "binary", "regression"]
    unit: str = "fraction"
    higher: bool = True
    counts: bool = False
    at_threshold: bool = False


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("accuracy", accuracy, "classification", counts=True),
        Metric("balanced_accuracy", balanced_accuracy, "classification", counts=True),
        Metric("macro_f1", macro_f1, "classification", counts=True),
        Metric("auroc", auroc, "classification"),
        Metric("auprc", auprc, "classification"),
        Metric("sensitivity", sensitivity, "binary", counts=True, at_threshold=True),
        Metric("specificity", specificity, "binary", counts=True, at_threshold=True),
        Metric("ppv", ppv, "binary", counts=True, at_threshold=True),
        Metric("npv", npv, "binary", counts=True, at_threshold=True),
        Metric("log_loss", log_loss, "classification", unit="nats", higher=False),
        Metric("brier", brier, "classification", unit="squared probability", higher=False),
        Metric("rmse", rmse, "regression", unit="label", higher=False),
        Metric("mae", mae, "regression", unit="label", higher=False),
        Metric("r2", r2, "regression"),
        Metric("median_ae", median_ae, "regression", unit="label", higher=False),
    )
}


def applicable(classes: int) -> tuple[str, ...]:
    """Names of the metrics that apply to K classes (0: a regression), in the order of `METRICS`."""
    kinds = {0: {"regression"}, 2: {"classification", "binary"}}.get(classes, {"classification"})
    return tuple(name for name, metric in METRICS.items() if metric.of in kinds)


def point(names: tuple[str, ...], s: Scored) -> dict[str, float]:
    """Plain values of the named metrics; NaN where undefined."""
    ones = np.ones((1, len(s)))
    return {name: float(METRICS[name].value(s, ones)[0]) for name in names}


def choose_threshold(s: Scored, rule: str, least: float) -> float | None:
    """The threshold on P(class 1) that keeps one rate at `least` and does best on its partner.

    Args:
        s: predictions for the rows that may be looked at for this (never those audited).
        rule: `sensitivity`, `specificity`, `ppv` or `npv`.
        least: what it must reach.

    Returns:
        The threshold, or None where no threshold reaches it.
    """
    scores = s._probabilities[:, 1]
    candidates = np.unique(scores)
    positive, negative = np.sort(scores[s.targets == 1]), np.sort(scores[s.targets == 0])
    tp = (len(positive) - np.searchsorted(positive, candidates, side="left")).astype(np.float64)
    fp = (len(negative) - np.searchsorted(negative, candidates, side="left")).astype(np.float64)
    tn, fn = len(negative) - fp, len(positive) - tp
    rates = {
        "sensitivity": _ratio(tp, tp + fn),
        "specificity": _ratio(tn, tn + fp),
        "ppv": _ratio(tp, tp + fp),
        "npv": _ratio(tn, tn + fn),
    }
    partner = {"sensitivity": "specificity", "specificity": "sensitivity"}.get(
        rule, "sensitivity" if rule == "ppv" else "specificity"
    )
    ok = np.nan_to_num(rates[rule], nan=-1.0) >= least
    if not ok.any():
        return None
    best = np.where(ok, np.nan_to_num(rates[partner], nan=-1.0), -2.0)
    return float(candidates[int(best.argmax())])
