"""How well an exported model agrees with the one it came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay.models.predictions import Predictions


@dataclass(frozen=True)
class Agreement:
    """Two models' predictions for the same rows.

    Attributes:
        n: number of rows.
        top1: share of rows on which both decide alike; for a regression, of rows whose values
            agree to the tolerance.
        max_abs: largest difference of a probability; for a regression of a value, in standard
            deviations of the training targets.
        ties: rows whose decisions differ, but whose two best probabilities are within the
            tolerance in the first model.
        flips: rows whose decisions differ otherwise.
        at: position of the row with the largest difference.
    """

    n: int
    top1: float
    max_abs: float
    ties: int
    flips: int
    at: int

    def holds(self, tolerance: float) -> bool:
        """Whether decisions match but for ties, and probabilities agree to the tolerance."""
        return self.flips == 0 and self.max_abs <= tolerance


def agreement(a: Predictions, b: Predictions, tolerance: float, scale: float = 1.0) -> Agreement:
    """Compare predictions of two models for the same rows in the same order.

    Args:
        a: of the original.
        b: of the exported one.
        tolerance: probabilities nearer than this are a tie.
        scale: unit in which values of a regression are compared.
    """
    if a.probabilities is None or b.probabilities is None:
        assert a.values is not None
        assert b.values is not None
        apart = np.abs(a.values.astype(np.float64) - b.values.astype(np.float64)) / scale
        apart = np.where(np.isfinite(apart), apart, np.inf)
        far = apart > tolerance
        return Agreement(
            n=len(a),
            top1=float(1 - far.mean()),
            max_abs=_bounded(apart.max()),
            ties=0,
            flips=int(far.sum()),
            at=int(apart.argmax()),
        )
    p, q = a.probabilities.astype(np.float64), b.probabilities.astype(np.float64)
    apart = np.abs(p - q).max(axis=1)
    apart = np.where(np.isfinite(apart), apart, np.inf)
    differs = a.indices != b.indices
    best = np.sort(p, axis=1)
    tied = differs & (best[:, -1] - best[:, -2] < tolerance)
    return Agreement(
        n=len(a),
        top1=float(1 - differs.mean()),
        max_abs=_bounded(apart.max()),
        ties=int(tied.sum()),
        flips=int((differs & ~tied).sum()),
        at=int(apart.argmax()),
    )


def _bounded(value: float) -> float:
    """Claims are JSON, which has no infinity."""
    return float(min(value, np.finfo(np.float64).max))
