"""Fitting the maps of `calibrate` on what a model says of a split."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from assay.config import build_part
from assay.errors import LoadError
from assay.models.structure import MAPS

if TYPE_CHECKING:
    from assay.models.model import Model

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def best_temperature(logits: Floats, targets: Ints) -> float | None:
    """The temperature of the smallest mean log-loss, in [0.01, 100].

    The loss is convex in the inverse of the temperature. Where every row is decided rightly it
    falls for ever as the temperature does: there is no smallest one then, and None is given.

    Args:
        logits: `[N, K]`.
        targets: true classes, `[N]`.
    """
    from scipy.optimize import minimize_scalar

    values = np.asarray(logits, np.float64)
    own = values[np.arange(len(targets)), targets]
    if bool((own >= values.max(axis=1)).all()):
        return None

    def loss(inverse: float) -> float:
        scaled = values * inverse
        top = scaled.max(axis=1)
        mass = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float((mass - inverse * own).mean())

    found = minimize_scalar(loss, bounds=(0.01, 100.0), method="bounded", options={"xatol": 1e-10})
    return 1.0 / float(found.x)


def isotonic_knots(probabilities: Floats, targets: Ints) -> tuple[Floats, Floats]:
    """Knots of the rising map of each class against the rest, `[K, M]` each.

    Rows with fewer knots than others repeat their last one.
    """
    from sklearn.isotonic import IsotonicRegression

    maps = []
    for k in range(probabilities.shape[1]):
        found = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
        found.fit(probabilities[:, k], (targets == k).astype(np.float64))
        maps.append((np.asarray(found.X_thresholds_), np.asarray(found.y_thresholds_)))
    most = max(2, *(len(x) for x, _ in maps))

    def padded(values: Floats) -> Floats:
        return np.concatenate([values, np.repeat(values[-1:], most - len(values))])

    return np.stack([padded(x) for x, _ in maps]), np.stack([padded(y) for _, y in maps])


def calibrated(model: Model, context: Any, method: str, split: str) -> Model:
    """A copy of the model with a fitted map after its head, in place of an older one.

    Args:
        model: the model; it is not changed.
        context: the stage's `RunContext`: the data, and where what was fitted is recorded.
        method: `temperature` or `isotonic`.
        split: rows to fit on.

    Raises:
        LoadError: the split has no rows.
    """
    data = context.dataset
    if split not in data.splits or not data.size(split):
        raise LoadError(
            f"the split {split!r} has no rows to fit on",
            where=f"data {data.card.name}",
            mend="one of: " + ", ".join(s for s in data.splits if data.size(s)),
        )
    plain = without_map(model)
    logits = plain.outputs(plain.preprocessing.encode(data.rows(split))).astype(np.float64)
    targets = data.targets(split)
    settings: dict[str, Any] = {}
    fitted: dict[str, Floats] = {}
    if method == "temperature":
        found = best_temperature(logits, targets)
        if found is None:
            context.progress.say(
                f"all {len(targets)} rows of {split} are decided rightly: they tell no "
                "temperature, it stays 1; give more rows"
            )
        temperature = 1.0 if found is None else found
        fitted = {"temperature": np.array([temperature])}
        context.record(temperature=temperature, rows=len(targets), separable=found is None)
    else:
        x, y = isotonic_knots(plain.task.probabilities(logits), targets)
        settings, fitted = {"classes": x.shape[0], "knots": x.shape[1]}, {"x": x, "y": y}
        context.record(knots=x.shape[1], rows=len(targets))
    structure = build_part("structure", {method: settings})
    changed = plain.with_structure(structure, 0)
    layer: Any = changed.network.get_submodule("calibration")
    with torch.no_grad():
        for name, value in fitted.items():
            getattr(layer, name).copy_(torch.from_numpy(np.ascontiguousarray(value)))
    changed.network.eval()
    return changed


def without_map(model: Model) -> Model:
    """A copy of the model without a fitted map after its head."""
    plain = model.copy()
    if isinstance(getattr(plain.network, "calibration", None), nn.Module):
        plain.network.calibration = nn.Identity()
    kept = tuple(s for s in plain.structures if s.part_name not in MAPS)
    return replace(plain, structures=kept)
