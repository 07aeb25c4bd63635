"""Intervals: deterministic, over units, of the right width, and fast."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap

from assay.audit.measures import intervals as iv
from assay.audit.measures.metrics import Scored, applicable, point


def binary(n: int, seed: int = 0, shift: float = 1.0) -> Scored:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, n)
    p1 = 1 / (1 + np.exp(-(rng.normal(size=n) + shift * (2 * targets - 1))))
    return Scored(targets, (p1 > 0.5).astype(int), np.column_stack([1 - p1, p1]))


def of(s: Scored, *names: str, **more: object) -> dict[str, tuple[float, float] | None]:
    units = more.pop("units", np.arange(len(s)))
    return iv.bootstrap(iv.statistics_of(names, s), units, **more)  # type: ignore[arg-type]


def test_equal_seeds_give_equal_intervals() -> None:
    s = binary(200)
    assert of(s, "auroc", seed=3) == of(s, "auroc", seed=3)
    assert of(s, "auroc", seed=3) != of(s, "auroc", seed=4)


def test_blocks_of_weights_make_the_asked_number_of_resamples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(iv, "_BLOCK", 100)
    blocks = list(iv.unit_weights(np.array([0, 0, 1, 2]), 60, seed=0))
    assert [len(b) for b in blocks] == [25, 25, 10]
    weights = np.concatenate(blocks)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 1:].sum(axis=1) == 3).all()


def test_percentile_interval_is_that_of_resampled_means() -> None:
    s = binary(300)
    low, high = of(s, "accuracy", resamples=4000)["accuracy"] or (0, 0)
    rate = point(("accuracy",), s)["accuracy"]
    half = 1.96 * np.sqrt(rate * (1 - rate) / 300)
    assert low == pytest.approx(rate - half, abs=0.008)
    assert high == pytest.approx(rate + half, abs=0.008)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_bootstrap_agrees_with_scipy(method: str) -> None:
    rng = np.random.default_rng(5)
    error = rng.exponential(size=80)
    s = Scored(np.zeros(80), error)
    got = of(s, "mae", resamples=9000, method=method)["mae"]
    want = scipy_bootstrap(
        (error,), np.mean, n_resamples=9000, method=method, rng=np.random.default_rng(1)
    ).confidence_interval
    assert got == pytest.approx(tuple(want), abs=0.012)


def test_units_that_repeat_rows_widen_the_interval() -> None:
    one = binary(100)
    take = np.repeat(np.arange(100), 10)
    ten = one.take(take)
    plain = of(one, "accuracy", resamples=3000)["accuracy"] or (0, 0)
    by_unit = of(ten, "accuracy", units=take, resamples=3000)["accuracy"] or (0, 0)
    by_row = of(ten, "accuracy", resamples=3000)["accuracy"] or (0, 0)
    assert by_unit == pytest.approx(plain, abs=0.015)
    assert by_row[1] - by_row[0] < 0.5 * (by_unit[1] - by_unit[0])


def test_a_single_unit_or_a_rarely_defined_metric_has_no_interval() -> None:
    s = binary(20)
    assert of(s, "accuracy", units=np.zeros(20, dtype=int))["accuracy"] is None
    rare = Scored(np.array([1] + [0] * 19), s.predicted, s.probabilities)
    assert of(rare, "auroc")["auroc"] is None  # a third of the resamples have no positive


def test_two_thousand_resamples_of_a_thousand_rows_are_fast() -> None:
    s = binary(1000)
    names = applicable(2)
    start = time.process_time()
    found = of(s, *names, resamples=2000)
    assert time.process_time() - start < 2.0
    assert all(span is not None and span[0] < span[1] for span in found.values())


def test_wilson() -> None:
    # Agresti and Coull 1998, table 1
    assert iv.wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert iv.wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


def test_corrected_t_is_wider_than_independent_folds() -> None:
    scores = [0.80, 0.82, 0.84, 0.78, 0.81]
    low, high = iv.corrected_t(scores, test_share=0.25) or (0, 0)
    variance = np.var(scores, ddof=1)
    half = 2.776445 * np.sqrt((1 / 5 + 0.25) * variance)
    assert (low, high) == pytest.approx((0.81 - half, 0.81 + half), abs=1e-6)
    assert iv.corrected_t([0.8], 0.25) is None


def test_compare_pairs_rows() -> None:
    a, units = binary(400, seed=1), np.arange(400)
    flipped = np.array(a.predicted)
    wrong = np.flatnonzero(flipped != a.targets)[:40]
    flipped[wrong] = a.targets[wrong]
    b = Scored(a.targets, flipped, a.probabilities)
    found = {d.metric: d for d in iv.compare(a, b, a.targets, units)}
    assert found["accuracy"].difference == pytest.approx(0.1)
    assert found["accuracy"].differs
    assert found["auroc"].interval == (0.0, 0.0)
    assert not found["auroc"].differs
    low, high = found["accuracy"].interval or (0, 0)
    assert high - low < 0.07  # unpaired it would be about .11


def test_compare_refuses_other_rows() -> None:
    a, b = binary(30, seed=1), binary(30, seed=2)
    with pytest.raises(ValueError, match="same rows"):
        iv.compare(a, b, a.targets, np.arange(30))
