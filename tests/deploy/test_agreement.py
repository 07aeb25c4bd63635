"""When two models agree."""

from __future__ import annotations

import numpy as np
import pytest

from assay.deploy.agreement import agreement
from assay.models.predictions import Predictions


def said(*first: float) -> Predictions:
    p = np.array([[x, 1 - x] for x in first])
    return Predictions(ids=list(range(len(first))), classes=("a", "b"), probabilities=p)


def test_equal_models_agree() -> None:
    found = agreement(said(0.9, 0.2), said(0.9, 0.2), 1e-4)
    assert (found.top1, found.max_abs, found.flips, found.ties) == (1.0, 0.0, 0, 0)
    assert found.holds(1e-4)


def test_a_tie_may_fall_either_way() -> None:
    found = agreement(said(0.50001, 0.2), said(0.49999, 0.2), 1e-4)
    assert (found.top1, found.flips, found.ties) == (0.5, 0, 1)
    assert found.holds(1e-4)


def test_a_flip_is_no_tie() -> None:
    found = agreement(said(0.501, 0.2), said(0.499, 0.2), 1e-4)
    assert (found.flips, found.ties, found.at) == (1, 0, 0)
    assert not found.holds(1e-4)


def test_probabilities_must_agree_even_where_decisions_do() -> None:
    found = agreement(said(0.9, 0.2), said(0.9, 0.2002), 1e-4)
    assert found.top1 == 1.0
    assert found.max_abs == pytest.approx(2e-4)
    assert not found.holds(1e-4)


def test_nan_never_agrees() -> None:
    assert not agreement(said(0.9), said(float("nan")), 1e-4).holds(1e-4)


def test_values_are_compared_in_their_own_spread() -> None:
    a = Predictions(ids=[0, 1], values=np.array([1000.0, 2000.0]))
    b = Predictions(ids=[0, 1], values=np.array([1000.0, 2000.05]))
    found = agreement(a, b, 1e-4, scale=1000.0)
    assert found.max_abs == pytest.approx(5e-5)
    assert found.holds(1e-4)
    assert not agreement(a, b, 1e-4).holds(1e-4)
