"""Every metric agrees with scikit-learn under weights, for every resample at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from assay.audit.measures import metrics as m


def scored(n: int, k: int, seed: int, levels: int | None = None) -> m.Scored:
    """Random predictions; `levels` makes many scores tie."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, k, n)
    targets[:k] = np.arange(k)
    raw = rng.normal(size=(n, k)) + 0.8 * np.eye(k)[targets]
    if levels:
        raw = np.round(raw * levels) / levels
    p = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    return m.Scored(targets, p.argmax(axis=1), p, threshold=0.4)


def weighted(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, size=(3, n)).astype(float)
    counts[:, : min(n, 8)] += 1  # no class vanishes
    return np.vstack([np.ones(n), counts])


def oracle(name: str, s: m.Scored, w: np.ndarray) -> Any:
    t, p = s.targets, s.predicted
    if name in ("rmse", "mae", "r2", "median_ae"):
        return {
            "rmse": lambda: sk.root_mean_squared_error(t, p, sample_weight=w),
            "mae": lambda: sk.mean_absolute_error(t, p, sample_weight=w),
            "r2": lambda: sk.r2_score(t, p, sample_weight=w),
            "median_ae": lambda: np.median(np.repeat(np.abs(t - p), w.astype(int))),
        }[name]()
    prob: Any = s.probabilities
    called = (prob[:, 1] >= s.threshold).astype(int)
    k = prob.shape[1]
    score = prob[:, 1] if k == 2 else prob
    one_hot = np.eye(k)[t]
    return {
        "accuracy": lambda: sk.accuracy_score(t, p, sample_weight=w),
        "balanced_accuracy": lambda: sk.balanced_accuracy_score(t, p, sample_weight=w),
        "macro_f1": lambda: sk.f1_score(t, p, average="macro", sample_weight=w),
        "auroc": lambda: sk.roc_auc_score(
            t if k == 2 else one_hot, score, average="macro", sample_weight=w
        ),
        "auprc": lambda: sk.average_precision_score(
            t if k == 2 else one_hot, score, average="macro", sample_weight=w
        ),
        "log_loss": lambda: sk.log_loss(t, prob, sample_weight=w, labels=range(k)),
        "brier": lambda: np.average(
            (prob[:, 1] - t) ** 2 if k == 2 else ((prob - one_hot) ** 2).sum(1), weights=w
        ),
        "sensitivity": lambda: sk.recall_score(t, called, sample_weight=w),
        "specificity": lambda: sk.recall_score(t, called, pos_label=0, sample_weight=w),
        "ppv": lambda: sk.precision_score(t, called, sample_weight=w),
        "npv": lambda: sk.precision_score(t, called, pos_label=0, sample_weight=w),
    }[name]()


@settings(max_examples=25)
@given(
    n=st.integers(12, 60),
    k=st.sampled_from([2, 3, 5]),
    seed=st.integers(0, 1000),
    levels=st.sampled_from([None, 1, 2]),
)
def test_classification_metrics_equal_scikit_learn(
    n: int, k: int, seed: int, levels: int | None
) -> None:
    s, w = scored(n, k, seed, levels), weighted(n, seed + 1)
    for name in m.applicable(k):
        got = m.METRICS[name].value(s, w)
        if name in ("ppv", "npv") and not np.isfinite(got).all():
            continue  # nothing was called so: undefined here, 0 and a warning there
        want = [oracle(name, s, row) for row in w]
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12, err_msg=name)


@given(n=st.integers(3, 50), seed=st.integers(0, 1000))
def test_regression_metrics_equal_scikit_learn(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.normal(100.0, 3.0, n).astype(np.float32)
    s, w = m.Scored(targets, targets + rng.normal(size=n)), weighted(n, seed)
    for name in m.applicable(0):
        want = [oracle(name, s, row) for row in w]
        np.testing.assert_allclose(m.METRICS[name].value(s, w), want, rtol=1e-6, err_msg=name)


def test_which_metrics_apply() -> None:
    assert "sensitivity" in m.applicable(2)
    assert "sensitivity" not in m.applicable(3)
    assert m.applicable(0) == ("rmse", "mae", "r2", "median_ae")


def test_undefined_is_nan_not_a_number_or_a_warning() -> None:
    p = np.array([[0.2, 0.8], [0.6, 0.4]])
    one_class = m.Scored(np.array([1, 1]), np.array([1, 0]), p)
    got = m.point(m.applicable(2), one_class)
    assert got["accuracy"] == 0.5
    assert all(np.isnan(got[name]) for name in ("auroc", "specificity"))
    assert np.isnan(m.point(("r2",), m.Scored(np.ones(4), np.arange(4.0)))["r2"])


def test_perfect_and_reversed_rankings() -> None:
    scores, positive = np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True])
    ones = np.ones((1, 4))
    assert m.binary_auroc(scores, positive, ones)[0] == 1.0
    assert m.binary_auroc(-scores, positive, ones)[0] == 0.0
    assert m.binary_auroc(np.zeros(4), positive, ones)[0] == 0.5


@pytest.mark.parametrize(
    ("rule", "least", "threshold"),
    [("sensitivity", 1.0, 0.3), ("sensitivity", 0.5, 0.8), ("specificity", 1.0, 0.8)],
)
def test_threshold_meets_its_rule_and_does_best_on_the_partner(
    rule: str, least: float, threshold: float
) -> None:
    p1 = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    targets = np.array([0, 0, 1, 0, 1, 1])
    s = m.Scored(targets, (p1 > 0.5).astype(int), np.column_stack([1 - p1, p1]))
    assert m.choose_threshold(s, rule, least) == threshold


def test_an_unreachable_rule_has_no_threshold() -> None:
    p1 = np.array([0.9, 0.5, 0.1])
    s = m.Scored(np.array([0, 1, 0]), np.array([1, 0, 0]), np.column_stack([1 - p1, p1]))
    assert m.choose_threshold(s, "ppv", 0.9) is None
