"""What a report draws of predictions: plain JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.audit.measures.baselines import Baseline
from assay.audit.measures.metrics import Floats, Ints, Scored, point
from assay.files import finite

#: points of a curve, rows of a scatter and mistakes that are kept
CURVE, SCATTER, MISTAKES, BINS = 200, 500, 20, 10


def confusion(s: Scored, classes: Sequence[str]) -> dict[str, Any]:
    """`matrix[i][j]`: rows of class i that were called class j."""
    k = len(classes)
    flat = np.bincount(
        s.targets.astype(np.int64) * k + s.predicted.astype(np.int64), minlength=k * k
    )
    return {"labels": list(classes), "matrix": flat.reshape(k, k).tolist()}


def roc(scores: Floats, positive: Any) -> list[list[float]]:
    """Points (false, true positive rate) from (0, 0) to (1, 1); none where it is undefined."""
    order = np.argsort(-scores, kind="stable")
    hit = np.asarray(positive)[order]
    last = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])
    tp, fp = np.cumsum(hit)[last], np.cumsum(~hit)[last]
    if not len(hit) or tp[-1] == 0 or fp[-1] == 0:
        return []
    points = np.column_stack([np.r_[0, fp] / fp[-1], np.r_[0, tp] / tp[-1]])
    if len(points) > CURVE:
        points = points[np.unique(np.linspace(0, len(points) - 1, CURVE).round().astype(int))]
    return [[round(float(x), 6), round(float(y), 6)] for x, y in points]


def reliability(s: Scored, bins: int = BINS) -> list[dict[str, float | int]]:
    """How often predictions of some confidence are right, in bins of equal width.

    For two classes the probability of class 1 against its frequency, else that of the decided
    class against its being right. Empty bins are left out.
    """
    assert s.probabilities is not None
    if s.classes == 2:
        confidence, right = s.probabilities[:, 1], s.targets == 1
    else:
        confidence, right = s.probabilities.max(axis=1), s.targets == s.predicted
    which = np.clip((confidence * bins).astype(np.int64), 0, bins - 1)
    return [
        {
            "from": b / bins,
            "to": (b + 1) / bins,
            "count": int((which == b).sum()),
            "confidence": float(confidence[which == b].mean()),
            "frequency": float(right[which == b].mean()),
        }
        for b in range(bins)
        if (which == b).any()
    ]


def mistakes(s: Scored, ids: Sequence[str | int], classes: Sequence[str]) -> list[dict[str, Any]]:
    """The wrong rows that the model was surest of, surest first."""
    assert s.probabilities is not None
    predicted, targets = s.predicted.astype(np.int64), s.targets.astype(np.int64)
    sure = s.probabilities[np.arange(len(s)), predicted]
    wrong = np.flatnonzero(predicted != targets)
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:MISTAKES]
    return [
        {
            "id": ids[i],
            "label": classes[targets[i]],
            "prediction": classes[predicted[i]],
            "probability": round(float(sure[i]), 6),
        }
        for i in worst
    ]


def of_baselines(found: Sequence[Baseline], names: tuple[str, ...]) -> list[dict[str, Any]]:
    """`{"name", "metrics"}` of each baseline, None where a metric is undefined."""
    return [
        {
            "name": b.name,
            "metrics": {m: finite(v) for m, v in point(names, b.scored).items()},
        }
        for b in found
    ]


def picture(
    s: Scored, ids: Sequence[str | int], classes: Sequence[str] | None, units: Ints
) -> dict[str, Any]:
    """Everything a report draws of one set of predictions."""
    out: dict[str, Any] = {"n": len(s), "units": int(units.max()) + 1 if len(units) else 0}
    if classes is None:
        step = max(1, -(-len(s) // SCATTER))
        pairs = zip(s.targets[::step], s.predicted[::step], strict=True)
        out["scatter"] = [[float(t), float(p)] for t, p in pairs]
        return out
    assert s.probabilities is not None
    out["confusion"] = confusion(s, classes)
    out["reliability"] = reliability(s)
    out["mistakes"] = mistakes(s, ids, classes)
    if len(classes) == 2:
        out["curve_roc"] = roc(s.probabilities[:, 1], s.targets == 1)
    else:
        out["curves_roc"] = {
            name: roc(s.probabilities[:, k], s.targets == k) for k, name in enumerate(classes)
        }
    return out
