"""What the audit `quality` measures, apart from its configuration: claims as plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from assay.audit.measures import baselines, evidence, intervals, resampling
from assay.audit.measures.latency import fingerprint
from assay.audit.measures.metrics import (
    METRICS,
    Scored,
    applicable,
    choose_threshold,
    point,
)
from assay.audit.measures.said import said
from assay.claims import Claim
from assay.claims.claim import Scalar
from assay.errors import LoadError, UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from assay.data.dataset import Dataset
    from assay.models.model import Model

#: smooth metrics (areas, losses) of the same network on another processor agree to this
SMOOTH = 1e-4
#: the nearer two probabilities, the more likely another processor decides otherwise
TIE = 1e-4


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        metrics: names; None for all that apply.
        point: the operating point: a threshold, or (rate, least value) to choose one by.
        resamples: of the bootstrap; 0 for none.
        method: of the bootstrap.
        level: confidence level.
        baselines: whether to fit baselines.
        seed: equal seeds measure equally.
        threads: of the process; training anew depends on it.
    """

    metrics: tuple[str, ...] | None
    point: float | tuple[str, float]
    resamples: int
    method: Literal["percentile", "bca"]
    level: float
    baselines: bool
    seed: int
    threads: int

    def names(self, data: Dataset) -> tuple[str, ...]:
        """The metrics to measure.

        Raises:
            UsageError: one does not apply to the task.
        """
        known = applicable(0 if data.classes is None else len(data.classes))
        for name in self.metrics or ():
            if name not in known:
                raise UsageError(
                    f"the metric {name!r} does not apply to this task",
                    where="audit.quality.metrics",
                    mend=did_you_mean(name, known),
                )
        return self.metrics or known

    def conditions(self, name: str) -> dict[str, Scalar]:
        """Conditions of a metric's claim: the operating point, where it depends on it."""
        if not METRICS[name].at_threshold:
            return {}
        if isinstance(self.point, tuple):
            return {"operating_point": f"{self.point[0]}>={self.point[1]:g}"}
        return {"threshold": self.point}


@dataclass(frozen=True)
class Found:
    """Claims, and what a report draws."""

    claims: list[Claim]
    picture: dict[str, Any]


def predict(model: Model, data: Dataset, split: str, threshold: float = 0.5) -> Scored:
    """A model's predictions for a split beside the truth.

    Raises:
        LoadError: the split has no rows.
    """
    found, targets = said(model, data, split), data.targets(split)
    if found.values is not None:
        return Scored(targets, found.values.astype(np.float64))
    assert found.probabilities is not None
    return Scored(targets, found.indices, found.probabilities.astype(np.float64), threshold)


def operating_point(plan: Plan, model: Model, data: Dataset, names: Sequence[str]) -> float:
    """The threshold; chosen on the validation rows where the plan gives a rule.

    Raises:
        UsageError: the rule does not apply, or no threshold meets it.
    """
    if not isinstance(plan.point, tuple):
        return plan.point
    rule, least = plan.point
    if not any(METRICS[name].at_threshold for name in names):
        raise UsageError(
            f"{rule} needs a classification with two classes and a metric that depends on it",
            where="audit.quality.operating_point",
            mend="leave it out",
        )
    found = choose_threshold(predict(model, data, "valid"), rule, least)
    if found is None:
        raise UsageError(
            f"no threshold reaches {rule}>={least:g} on the validation rows",
            where="audit.quality.operating_point",
            mend="ask for less",
        )
    return found


def held_out(plan: Plan, model: Model, data: Dataset, split: str) -> Found:
    """Quality on the rows of one split."""
    names = plan.names(data)
    threshold = operating_point(plan, model, data, names)
    scored, units = predict(model, data, split, threshold), data.units(split)
    values = _defined(plan, names, scored, split)
    found: list[baselines.Baseline] = []
    if plan.baselines:
        found = baselines.baselines(data, split, threshold=threshold, seed=plan.seed % 2**31)
    beside = evidence.of_baselines(found, tuple(values))
    spans: dict[str, tuple[float, float] | None] = {}
    if plan.resamples:
        spans = intervals.bootstrap(
            intervals.statistics_of(tuple(values), scored),
            units,
            resamples=plan.resamples,
            seed=plan.seed,
            level=plan.level,
            method=plan.method,
        )
    rows, n = len(scored), int(units.max()) + 1
    claims = []
    for name, value in values.items():
        span = spans.get(name)
        method = f"bootstrap over units, {plan.resamples} resamples, {plan.method}"
        if name == "accuracy" and n == rows:
            span, method = intervals.wilson(round(value * rows), rows, plan.level), "Wilson"
        details: dict[str, Any] = {"rows": rows, "slack": slack(name, scored)}
        if METRICS[name].at_threshold:
            details["threshold"] = threshold
        claims.append(
            Claim(
                kind=f"quality.{name}",
                value=value,
                unit=METRICS[name].unit,
                dataset=data.card.name,
                split=split,
                conditions=plan.conditions(name),
                method=method if span is not None else "",
                interval=span,
                level=plan.level,
                n=n,
                details=details | _against(beside, name),
            )
        )
    picture = evidence.picture(scored, data.ids(split), data.classes, units)
    picture |= {"baselines": beside, "metrics": values, "split": split, "threshold": threshold}
    return Found(claims, picture | {"dataset": data.card.name})


def out_of_fold(
    plan: Plan,
    data: Dataset,
    folds: int,
    repeats: int,
    retrain: Callable[[Dataset, int, str], Model],
    told: Callable[[int, int], None],
) -> Found:
    """Quality of models trained anew on folds of all rows.

    Args:
        plan: what to measure.
        data: all its rows are used.
        folds: folds a repeat.
        repeats: how often the folds are dealt anew.
        retrain: (data set, seed, start) -> model.
        told: (done, of) trainings.
    """
    names, rows = plan.names(data), resampling.pool(data)
    parts = resampling.folds(data, rows, folds, repeats, plan.seed)

    def score(part: resampling.Fold) -> Scored:
        told(part.index, len(parts))
        trained = retrain(part.dataset, plan.seed + part.index, "pretrained")
        return predict(
            trained, part.dataset, "test", operating_point(plan, trained, part.dataset, names)
        )

    def judge(part: resampling.Fold, scored: Scored) -> list[baselines.Baseline]:
        return baselines.baselines(
            part.dataset, "test", threshold=scored.threshold, seed=plan.seed % 2**31
        )

    found = resampling.out_of_fold(parts, rows, score, judge if plan.baselines else None)
    beside: list[dict[str, Any]] = [
        {"name": name, "metrics": _means(each, names)} for name, each in found.baselines.items()
    ]
    values, how = _means(found.each, names), f"{repeats}x{folds} out-of-fold"
    machine = fingerprint("torch", plan.threads)
    details = {"rows": len(rows.rows), "slack": SMOOTH, "machine": machine}
    claims = []
    for name, value in values.items():
        scores = [point((name,), scored)[name] for scored in found.each]
        claims.append(
            Claim(
                kind=f"quality.{name}",
                value=value,
                unit=METRICS[name].unit,
                dataset=data.card.name,
                split="out-of-fold",
                conditions={"resampling": how, **plan.conditions(name)},
                method="mean over folds of models trained anew; interval for a fresh training and "
                "test set by the corrected resampled t (Nadeau and Bengio 2003)",
                interval=intervals.corrected_t(scores, found.test_share, plan.level),
                level=plan.level,
                n=int(rows.units.max()) + 1,
                details=details | {"folds": scores} | _against(beside, name),
            )
        )
    picture = evidence.picture(found.mean, rows.ids, data.classes, rows.units)
    picture |= {"baselines": beside, "metrics": values, "split": "out-of-fold", "resampling": how}
    return Found(claims, picture | {"dataset": data.card.name, "threshold": found.mean.threshold})


def _against(beside: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return {"baselines": {b["name"]: b["metrics"].get(name) for b in beside}} if beside else {}


def _defined(plan: Plan, names: tuple[str, ...], scored: Scored, split: str) -> dict[str, float]:
    values = point(names, scored)
    for name, value in values.items():
        if plan.metrics is not None and not math.isfinite(value):
            raise LoadError(
                f"{name} is undefined on these rows: a class is missing, or none is called so",
                where=f"audit.quality, split {split!r}",
                mend="audit more rows or leave the metric out",
            )
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _means(each: Sequence[Scored], names: tuple[str, ...]) -> dict[str, float]:
    points = [point(names, scored) for scored in each]
    means = {name: sum(p[name] for p in points) / len(points) for name in names}
    return {name: value for name, value in means.items() if math.isfinite(value)}


def slack(name: str, scored: Scored) -> float:
    """How far a metric of the same network may move on another processor.

    For ratios of counts: the share of rows (of the smallest class, where classes count alike)
    whose decision is a tie within 1e-4. For areas, losses and errors: 1e-4.
    """
    if not METRICS[name].counts or scored.probabilities is None:
        return SMOOTH
    if METRICS[name].at_threshold:
        margin = np.abs(scored.probabilities[:, 1] - scored.threshold)
    else:
        top = np.sort(scored.probabilities, axis=1)
        margin = top[:, -1] - top[:, -2]
    among = len(scored)
    if name != "accuracy":
        among = int(np.bincount(scored.targets.astype(np.int64)).clip(min=1).min())
    return float((margin < TIE).sum()) / among
