"""Calibration errors and prediction sets against closed forms and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from assay.audit.measures import calibration as by
from assay.audit.measures.metrics import Ints

RNG = np.random.default_rng(0)


def calibrated(n: int, seed: int = 0) -> by.Judged:
    """A model that is right exactly as often as it says."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1, n)
    return by.Judged(confidence, (rng.random(n) < confidence).astype(float))


def error(found: by.Judged, resamples: int = 0) -> by.CalibrationError:
    bins = by.equal_width(found.confidence, 15)
    units = np.arange(len(bins))
    return by.calibration_error(found, bins, 15, units, resamples=resamples, seed=1)


def test_the_error_is_the_mean_gap_of_the_bins() -> None:
    confidence = np.array([0.6, 0.62, 0.9, 0.95])
    found = by.Judged(confidence, np.array([1.0, 0.0, 1.0, 1.0]))
    # bins of 0.1: 0.6 is the edge of (0.5, 0.6], 0.62 in (0.6, 0.7], 0.9 of (0.8, 0.9], 0.95 above
    gaps = abs(1 - 0.6) + abs(0 - 0.62) + abs(1 - 0.9) + abs(1 - 0.95)
    bins = by.equal_width(confidence, 10)
    got = by.calibration_error(found, bins, 10, np.arange(4), resamples=0, seed=0)
    assert got.value == pytest.approx(gaps / 4) and got.interval is None


def test_bins_as_scikit_learn_has_them() -> None:
    from sklearn.calibration import calibration_curve

    found = calibrated(3000)
    accuracy, confidence = calibration_curve(found.right, found.confidence, n_bins=10)
    ours = by.reliability(found, 10)
    np.testing.assert_allclose([b["accuracy"] for b in ours], accuracy)
    np.testing.assert_allclose([b["confidence"] for b in ours], confidence)
    assert sum(b["n"] for b in ours) == 3000
    assert all(b["ci"][0] <= b["accuracy"] <= b["ci"][1] for b in ours)


def test_a_calibrated_model_is_within_its_null_and_a_bold_one_is_not() -> None:
    within = [error(calibrated(800, seed)) for seed in range(40)]
    beyond = sum(e.value > e.null_high for e in within)
    assert beyond <= 6  # 5% of 40 is 2; more than 6 has a probability below 0.004
    fair = calibrated(800)
    bold = by.Judged(np.minimum(fair.confidence + 0.1, 1.0), fair.right)
    found = error(bold, resamples=200)
    assert found.value > found.null_high and found.interval is not None
    assert found.interval[0] > 0.04


def test_bins_of_equal_mass_hold_as_many_rows() -> None:
    counts = np.bincount(by.equal_mass(RNG.random(1500), 15), minlength=15)
    assert counts.min() >= 99 and counts.max() <= 101


def test_the_limit_is_the_finite_sample_quantile() -> None:
    own = np.arange(1, 20) / 20.0  # 19 rows: (19 + 1) * 0.9 = 18th smallest
    assert by.threshold(own, 0.1) == pytest.approx(18 / 20)
    assert by.threshold(own[:5], 0.1) == float("inf")


@pytest.mark.parametrize("method", ["lac", "aps"])
def test_sets_cover_as_promised_over_exchangeable_draws(method: by.Method) -> None:
    covered = n = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        p = rng.dirichlet([0.5, 0.7, 1.0], 120)
        y = np.array([rng.choice(3, p=row) for row in p])
        sets = by.conformal((p[:60], y[:60]), (p[60:], y[60:]), 0.2, method)
        covered, n = covered + sets.covered, n + 60
        assert sets.members.shape == (60, 3)
    # coverage lies in [0.8, 0.8 + 1/61] or above; 200 draws of 60 rows: four deviations are 0.03
    assert covered / n > 0.77
    assert method == "aps" or covered / n < 0.85


def test_aps_counts_the_mass_of_what_is_as_probable() -> None:
    got = by.scores(np.array([[0.2, 0.5, 0.3]]), "aps")
    np.testing.assert_allclose(got, [[1.0, 0.5, 0.8]])
    np.testing.assert_allclose(by.scores(np.array([[0.2, 0.8]]), "lac"), [[0.8, 0.2]])


def test_clopper_pearson_is_exact_at_the_ends() -> None:
    assert by.clopper_pearson(0, 10)[0] == 0.0 and by.clopper_pearson(10, 10)[1] == 1.0
    low = by.clopper_pearson(10, 10)[0]
    assert low**10 == pytest.approx(0.025)


@pytest.mark.parametrize("over", [0.0, 0.03, 0.1])
def test_the_interval_holds_its_value_and_the_error_expected_of_so_many_rows(over: float) -> None:
    n = 300

    def drawn(seed: int) -> tuple[by.Judged, Ints]:
        fair = calibrated(n, seed)
        found = by.Judged(np.minimum(fair.confidence + over, 1.0), fair.right)
        return found, by.equal_mass(found.confidence, 15)

    def plain(found: by.Judged, bins: Ints) -> float:
        return float(by.error_of(bins, found, 15)(np.ones((1, n)))["ece"][0])

    expected = float(np.mean([plain(*drawn(seed)) for seed in range(1000, 2000)]))
    covered = 0
    for seed in range(100):
        found, bins = drawn(seed)
        got = by.calibration_error(found, bins, 15, np.arange(n), resamples=200, seed=seed)
        assert got.interval is not None and got.interval[0] <= got.value <= got.interval[1]
        covered += got.interval[0] <= expected <= got.interval[1]
    assert covered >= 88  # of 95 expected: fewer have a probability below 0.002


def test_rows_of_one_unit_count_once_in_the_intervals_of_sets() -> None:
    hits = np.repeat((RNG.random(60) < 0.9).astype(float), 10)
    sizes = np.ones(600)
    rows, how = by.set_spans(hits, sizes, np.arange(600), resamples=300, seed=0)
    assert rows["coverage"] == by.clopper_pearson(int(hits.sum()), 600)
    assert how["coverage"] == "Clopper and Pearson"
    units, how = by.set_spans(hits, sizes, np.repeat(np.arange(60), 10), resamples=300, seed=0)
    assert units["coverage"] is not None
    wide = units["coverage"][1] - units["coverage"][0]
    narrow = rows["coverage"][1] - rows["coverage"][0]
    assert wide > 2 * narrow  # sqrt(10) times, were nothing else
    assert how["coverage"].startswith("percentile bootstrap over units")
    nothing, how = by.set_spans(hits, sizes, np.repeat([0, 1], 300), resamples=0, seed=0)
    assert nothing == {"coverage": None, "size": None} and how["size"] == ""


def test_rows_that_set_the_limit_do_not_judge_it() -> None:
    from assay.audit.calibration import CalibrationAudit, Conformal

    with pytest.raises(ValueError, match="rows that judge them"):
        CalibrationAudit(conformal=Conformal(split="test"))
