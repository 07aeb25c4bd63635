"""Lower bounds on epsilon: the theorem's tail term by term, and mechanisms of known epsilon."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, norm

from assay.privacy.attacks.canaries import (
    SHARES,
    from_rates,
    guess,
    lower_bound,
    one_run,
    p_value,
)

EPSILON = st.floats(0, 8)


def keeps_level(misses: int, of: int, alpha: float = 0.05) -> bool:
    """Whether misses at a rate of at most alpha are still likely (one in a thousand)."""
    return bool(binomtest(misses, of, alpha, alternative="greater").pvalue > 1e-3)


# -- the tail -------------------------------------------------------------------------------------


@given(st.integers(0, 60), st.integers(0, 60), EPSILON)
def test_without_delta_it_is_a_binomial_tail(a: int, b: int, epsilon: float) -> None:
    guesses, right = max(a, b), min(a, b)
    q = math.exp(epsilon) / (1 + math.exp(epsilon))
    expected = sum(
        math.comb(guesses, k) * q**k * (1 - q) ** (guesses - k) for k in range(right, guesses + 1)
    )
    assert p_value(60, guesses, right, epsilon) == pytest.approx(min(1, expected), rel=1e-9)


@given(st.integers(0, 40), st.integers(0, 40), EPSILON, st.floats(1e-9, 0.01))
def test_delta_adds_the_likeliest_shift(a: int, b: int, epsilon: float, delta: float) -> None:
    guesses, right, m = max(a, b), min(a, b), 50
    q = 1 / (1 + math.exp(-epsilon))

    def tail(v: int) -> float:
        return float(binom.sf(v - 1, guesses, q))

    shift = max((tail(right - i) - tail(right)) / i for i in range(1, m + 1))
    expected = min(1.0, tail(right) + 2 * m * delta * shift)
    assert p_value(m, guesses, right, epsilon, delta) == pytest.approx(expected, rel=1e-6)


@given(st.integers(1, 200), st.floats(0, 1), st.floats(0, 1e-3))
def test_the_bound_is_monotone(guesses: int, share: float, delta: float) -> None:
    right = round(share * guesses)
    bound = lower_bound(200, guesses, right, delta)
    assert 0 <= bound < 8
    assert lower_bound(200, guesses, min(guesses, right + 1), delta) >= bound - 1e-9
    assert lower_bound(200, guesses, right, 2 * delta + 1e-6) <= bound + 1e-9
    assert lower_bound(200, guesses, right, delta, 0.99) <= bound + 1e-9


def test_the_bound_is_where_the_tail_meets_alpha() -> None:
    for right in (80, 95, 100):
        bound = lower_bound(100, 100, right, 1e-5, 0.95)
        assert p_value(100, 100, right, bound, 1e-5) == pytest.approx(0.05)
    # all right, delta 0: q^100 = 0.05
    q = 0.05 ** (1 / 100)
    assert lower_bound(100, 100, 100) == pytest.approx(math.log(q / (1 - q)))


def test_a_coin_s_guesses_show_nothing() -> None:
    assert lower_bound(100, 100, 50) == 0.0
    assert lower_bound(1000, 1000, 600) > 0.25
    assert lower_bound(1000, 1000, 600, delta=0.01) == 0.0  # delta may have done that


@pytest.mark.parametrize("counts", [(10, 11, 3), (10, 5, 6), (10, 5, -1)])
def test_impossible_counts_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        p_value(*counts, epsilon=1.0)


# -- mechanisms of known epsilon ------------------------------------------------------------------


def randomised_response(m: int, epsilon: float, rng: np.random.Generator) -> tuple[int, int]:
    """(guesses, right) of an attacker who believes each bit that was said."""
    kept = rng.random(m) < 1 / (1 + math.exp(-epsilon))
    return m, int(kept.sum())


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0])
def test_randomised_response_is_bounded_and_nearly_met(epsilon: float) -> None:
    rng = np.random.default_rng(5)
    bounds = np.array(
        [lower_bound(2000, *randomised_response(2000, epsilon, rng)) for _ in range(400)]
    )
    assert keeps_level(int((bounds > epsilon).sum()), 400)
    # the level is used up: the bound is no looser than it must be
    assert (bounds > epsilon).mean() > 0.02
    assert bounds.mean() == pytest.approx(epsilon, abs=0.08 + 0.1 * epsilon)


def gaussian_scores(
    m: int, noise: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Each canary has a dimension of its own: (what is released there, how the coins fell)."""
    included = rng.random(m) < 0.5
    return included + noise * rng.normal(size=m), included


def gaussian_epsilon(noise: float, delta: float) -> float:
    """Of the Gaussian mechanism with sensitivity 1 (Balle and Wang 2018, arXiv 1805.06530)."""
    low, high = 0.0, 60.0
    for _ in range(80):
        e = (low + high) / 2
        at = norm.cdf(0.5 / noise - e * noise) - math.exp(e) * norm.cdf(-0.5 / noise - e * noise)
        low, high = (e, high) if at > delta else (low, e)
    return high


@pytest.mark.parametrize("noise", [0.5, 1.0, 3.0])
def test_the_gaussian_mechanism_keeps_its_epsilon(noise: float) -> None:
    """The best of several numbers of guesses stays below epsilon 95 times of 100."""
    delta = 1e-5
    epsilon = gaussian_epsilon(noise, delta)
    rng = np.random.default_rng(6)
    bounds = [one_run(*gaussian_scores(500, noise, rng), delta=delta).epsilon for _ in range(80)]
    assert keeps_level(sum(b > epsilon for b in bounds), 80)
    if noise == 0.5:
        assert np.mean(bounds) > epsilon / 6


def test_the_choice_among_numbers_of_guesses_keeps_the_level() -> None:
    """Where there is nothing to see, a bound above 0 is a false alarm of all choices together."""
    rng = np.random.default_rng(7)
    alarms = 0
    for _ in range(1000):
        included = rng.random(256) < 0.5
        alarms += one_run(rng.normal(size=256), included).epsilon > 0
    assert keeps_level(alarms, 1000)


def test_no_noise_is_seen() -> None:
    rng = np.random.default_rng(8)
    found = one_run(*gaussian_scores(1000, 0.0, rng), delta=1e-5)
    assert found.guesses == found.right
    level = 1 - 0.05 / len(SHARES)
    expected = max(lower_bound(1000, n, n, 1e-5, level) for n in (32, 125, 250, 500))
    assert found.epsilon >= expected > 3


def test_few_sure_guesses_show_more_than_many_unsure_ones() -> None:
    """A tenth of the canaries is plain to see, the rest is hidden."""
    rng = np.random.default_rng(9)
    included = rng.random(2000) < 0.5
    scores = rng.normal(size=2000)
    scores[:200] += np.where(included[:200], 50, -50)
    found = one_run(scores, included)
    assert found.guesses < 500
    assert found.epsilon > 2
    assert one_run(scores, included, shares=(1.0,)).epsilon < 0.5


def test_guesses_are_the_ends() -> None:
    said = guess(np.array([0.3, 5.0, -1.0, 2.0]), 1, 2)
    assert said.tolist() == [-1, 1, -1, 0]
    assert guess(np.zeros(3), 1, 1).tolist() == [-1, 0, 1]
    assert guess(np.zeros(3), 0, 0).tolist() == [0, 0, 0]


def test_no_canaries_no_audit() -> None:
    with pytest.raises(ValueError, match="without canaries"):
        one_run(np.zeros(0), np.zeros(0, dtype=bool))


# -- many runs ------------------------------------------------------------------------------------


def test_rates_bound_epsilon() -> None:
    """By the formula: all of 1000 found, none of 1000 by mistake; each end at 0.025."""
    hits, alarms = 0.025 ** (1 / 1000), 1 - 0.025 ** (1 / 1000)
    expected = math.log(hits / alarms)
    assert from_rates(1000, 1000, 0, 1000) == pytest.approx(expected)
    assert from_rates(1000, 1000, 0, 1000, delta=0.1) == pytest.approx(
        math.log((hits - 0.1) / alarms)
    )
    assert from_rates(500, 1000, 500, 1000) == 0.0
    assert from_rates(0, 1000, 1000, 1000) == 0.0


def test_rare_mistakes_of_either_kind_count() -> None:
    """What is never missed bounds epsilon as well as what is never called by mistake."""
    assert from_rates(300, 1000, 0, 1000) == pytest.approx(from_rates(1000, 1000, 700, 1000))
    assert from_rates(300, 1000, 0, 1000) > 3


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_rates_of_randomised_response_keep_the_level(epsilon: float) -> None:
    rng = np.random.default_rng(10)
    q = 1 / (1 + math.exp(-epsilon))
    bounds = [
        from_rates(int(rng.binomial(4000, q)), 4000, int(rng.binomial(4000, 1 - q)), 4000)
        for _ in range(400)
    ]
    assert keeps_level(sum(b > epsilon for b in bounds), 400)
    assert np.mean(bounds) == pytest.approx(epsilon, abs=0.15)
