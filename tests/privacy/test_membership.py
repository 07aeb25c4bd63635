"""Membership attacks: closed forms, brute force, coverage, and members that are really found."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import norm

from assay.privacy.attacks.membership import (
    advantage,
    auc,
    class_scores,
    clopper_pearson,
    lira,
    per_unit,
    residuals,
    roc,
    tpr_at,
    value_scores,
)

#: few values, so that there are ties
SCORES = arrays.arrays(np.float64, st.integers(1, 12), elements=st.integers(-3, 3).map(float))


# -- scores ---------------------------------------------------------------------------------------


def test_the_logit_is_that_of_the_probability() -> None:
    p = np.array([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]])
    found = class_scores(p, [1, 0])
    assert found == pytest.approx([0.0, math.log(9)])


def test_the_logit_is_exact_where_the_probability_rounds_to_one() -> None:
    """Of logits (60, 0) the true one is 60, though softmax gives exactly 1."""
    logits = np.array([[60.0, 0.0], [0.0, 60.0]])
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    assert p[0, 0] == 1.0
    assert class_scores(p, [0, 0]) == pytest.approx([60.0, -60.0])


def test_the_logit_of_what_is_impossible_is_finite() -> None:
    found = class_scores([[1.0, 0.0], [0.0, 1.0]], [0, 0])
    assert np.isfinite(found).all()
    assert found[0] > 700 and found[1] < -700


def test_values_score_minus_their_squared_error() -> None:
    assert value_scores([1.0, 5.0], [1.0, 3.0], 2.0).tolist() == [0.0, -1.0]


def test_rows_of_a_unit_are_averaged() -> None:
    found = per_unit(np.array([[1.0, 5.0, 3.0], [0.0, 2.0, 4.0]]), np.array([0, 1, 0]))
    assert found.tolist() == [[2.0, 5.0], [2.0, 2.0]]
    assert per_unit(np.array([1.0, 5.0, 3.0]), np.array([0, 1, 0])).tolist() == [2.0, 5.0]


def test_residuals_know_nothing_of_the_reference() -> None:
    rng = np.random.default_rng(0)
    reference, own = rng.normal(size=100), rng.normal(size=100)
    found = residuals(3 * reference + own, reference)
    assert np.corrcoef(found, reference)[0, 1] == pytest.approx(0.0, abs=1e-9)
    assert np.corrcoef(found, own)[0, 1] > 0.98
    assert residuals(own, np.ones(100)) == pytest.approx(own - own.mean())


# -- area, advantage, rates -----------------------------------------------------------------------


@given(SCORES, SCORES)
def test_area_and_advantage_are_those_of_all_pairs_and_thresholds(
    members: np.ndarray, others: np.ndarray
) -> None:
    pairs = np.sign(members[:, None] - others[None, :])
    found = auc(members, others)
    assert found.value == pytest.approx((pairs.mean() + 1) / 2)
    assert 0 <= found.interval[0] <= found.value + 1e-12
    assert found.value - 1e-12 <= found.interval[1] <= 1
    thresholds = np.append(np.unique(np.concatenate([members, others])), np.inf)
    best = max((members >= t).mean() - (others >= t).mean() for t in thresholds)
    assert advantage(members, others).value == pytest.approx(best)


@given(SCORES, SCORES)
def test_the_curve_has_a_point_a_threshold(members: np.ndarray, others: np.ndarray) -> None:
    alarms, hits = roc(members, others)
    thresholds = np.append(np.inf, np.unique(np.concatenate([members, others]))[::-1])
    assert alarms == pytest.approx([(others >= t).mean() for t in thresholds])
    assert hits == pytest.approx([(members >= t).mean() for t in thresholds])
    trapezoid = float(np.sum(np.diff(alarms) * (hits[1:] + hits[:-1]) / 2))
    assert trapezoid == pytest.approx(auc(members, others).value)


@given(SCORES, SCORES, st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.99]))
def test_rate_at_a_false_positive_rate(members: np.ndarray, others: np.ndarray, fpr: float) -> None:
    """The best point of the curve whose false-positive rate is allowed, without splitting ties."""
    alarms, hits = roc(members, others)
    expected = hits[alarms <= fpr + 1e-9].max()
    found = tpr_at(members, others, fpr)
    assert found.value == pytest.approx(expected)
    assert found.interval[0] <= found.value <= found.interval[1]


def test_few_non_members_allow_no_false_positive() -> None:
    others = np.arange(50.0)
    assert tpr_at(np.array([49.0, 49.5, 60.0, 3.0]), others, 0.001).value == 0.5
    assert tpr_at(np.array([49.0, 49.5, 60.0, 3.0]), others, 0.02).value == 0.75


def test_the_area_s_interval_is_de_long_s() -> None:
    """Its variance, from the definition over all pairs."""
    rng = np.random.default_rng(1)
    members, others = rng.normal(0.5, 1, 40), rng.normal(0, 1, 30)
    wins = (members[:, None] > others[None, :]).astype(float)
    variance = wins.mean(axis=1).var(ddof=1) / 40 + wins.mean(axis=0).var(ddof=1) / 30
    value = wins.mean()
    half = norm.ppf(0.975) * math.sqrt(variance) / (value * (1 - value))
    ends = [1 / (1 + math.exp(-(math.log(value / (1 - value)) + s * half))) for s in (-1, 1)]
    assert auc(members, others).interval == pytest.approx(ends)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_intervals_cover_the_truth(shift: float) -> None:
    """Of 400 samples of two shifted normals; 16 standard errors below 95% would be chance."""
    rng = np.random.default_rng(2)
    area = norm.cdf(shift / math.sqrt(2))
    gap = 2 * norm.cdf(shift / 2) - 1
    of_area = of_gap = 0
    for _ in range(400):
        members, others = rng.normal(shift, 1, 60), rng.normal(0, 1, 50)
        low, high = auc(members, others).interval
        of_area += low <= area <= high
        low, high = advantage(members, others).interval
        of_gap += low <= gap <= high
    assert of_area >= 0.92 * 400
    assert of_gap >= 0.95 * 400


@pytest.mark.parametrize("sign", [1, -1])
def test_complete_separation_is_no_certainty(sign: int) -> None:
    members, others = sign * np.arange(1.0, 11), -sign * np.arange(1.0, 21)
    found = auc(members, others)
    edge = 0.025 ** (1 / 10)
    assert found.value == (1.0 if sign == 1 else 0.0)
    assert found.interval == pytest.approx((edge, 1.0) if sign == 1 else (0.0, 1 - edge))


def test_scores_that_say_nothing_have_a_wide_interval() -> None:
    found = auc(np.zeros(20), np.zeros(30))
    assert found.value == 0.5
    assert found.interval[0] < 0.3 and found.interval[1] > 0.7


def test_clopper_pearson_is_exact() -> None:
    low, high = clopper_pearson(3, 10)
    from scipy.stats import binom

    assert binom.sf(2, 10, low) == pytest.approx(0.025)
    assert binom.cdf(3, 10, high) == pytest.approx(0.025)
    assert clopper_pearson(10, 10)[1] == 1.0


# -- LiRA -----------------------------------------------------------------------------------------


def shadow_world(
    units: int, shadows: int, gain: float, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scores of units that are hard to different degrees: (observed, shadows, inside, member)."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 3, units)
    inside = np.zeros((shadows, units), dtype=bool)
    for pair in range(shadows // 2):
        half = rng.random(units) < 0.5
        inside[2 * pair], inside[2 * pair + 1] = half, ~half
    member = rng.random(units) < 0.5
    told = hard + gain * inside + rng.normal(size=inside.shape)
    return hard + gain * member + rng.normal(size=units), told, inside, member


def test_each_score_is_the_ratio_of_two_normal_densities() -> None:
    observed, told, inside, _ = shadow_world(5, 8, 1.0, 0)
    found = lira(observed, told, inside, global_variance=False)
    outside = lira(observed, told, inside, online=False, global_variance=False)
    for u in range(5):
        own, other = told[inside[:, u], u], told[~inside[:, u], u]
        expected = norm.logpdf(observed[u], own.mean(), own.std(ddof=1)) - norm.logpdf(
            observed[u], other.mean(), other.std(ddof=1)
        )
        assert found[u] == pytest.approx(expected)
        assert outside[u] == pytest.approx(
            norm.logcdf(observed[u], other.mean(), other.std(ddof=1))
        )


def test_a_global_variance_is_that_of_all_units() -> None:
    observed, told, inside, _ = shadow_world(2000, 4, 1.0, 0)
    spread = {}
    for kind, chosen in (("in", inside), ("out", ~inside)):
        mean = np.where(chosen, told, 0).sum(axis=0) / 2
        rest = (told - mean)[chosen]
        spread[kind] = mean, math.sqrt(float(np.square(rest).sum()) / 2000)
        assert spread[kind][1] == pytest.approx(1.0, abs=0.05)  # unbiased with two a unit
    expected = norm.logpdf(observed, *spread["in"]) - norm.logpdf(observed, *spread["out"])
    assert lira(observed, told, inside) == pytest.approx(expected)


@pytest.mark.parametrize("online", [True, False])
def test_it_finds_members_that_a_threshold_does_not(online: bool) -> None:
    observed, told, inside, member = shadow_world(4000, 16, 2.0, 3)
    found = lira(observed, told, inside, online=online)
    plain = auc(observed[member], observed[~member])
    better = auc(found[member], found[~member])
    # of normals 2 apart beside their difficulty (sd 3), and without it; offline, one mean is known
    assert plain.value == pytest.approx(norm.cdf(2 / math.sqrt(20)), abs=0.03)
    assert better.value == pytest.approx(norm.cdf(2 / math.sqrt(2 + 1 / 4)), abs=0.03)
    low = 0.001
    assert tpr_at(found[member], found[~member], low).value > 8 * max(
        low, tpr_at(observed[member], observed[~member], low).value
    )


def test_it_finds_nothing_where_there_is_nothing() -> None:
    observed, told, inside, member = shadow_world(4000, 8, 0.0, 4)
    found = lira(observed, told, inside)
    low, high = auc(found[member], found[~member], level=0.999).interval
    assert low <= 0.5 <= high


def test_equal_shadows_give_finite_equal_scores() -> None:
    observed = np.array([1.0, -2.0, 0.3])
    inside = np.array([[True, False, True], [False, True, False]])
    found = lira(observed, np.stack([observed, observed]), inside)
    assert found == pytest.approx(np.zeros(3), abs=1e-6)


def test_a_unit_must_be_in_and_out() -> None:
    inside = np.array([[True, False], [True, True]])
    with pytest.raises(ValueError, match="in some shadow models"):
        lira(np.zeros(2), np.zeros((2, 2)), inside)
