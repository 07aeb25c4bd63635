"""The discrete Gaussian against its exact probabilities, and what a noised sum promises.

Statistical tests have fixed keys and would fail by chance for one key in a million (`RARE`).
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import stats

from assay.errors import UsageError
from assay.privacy import accountant
from assay.privacy.discrete import (
    SIGMA,
    _geometric,
    _laplace,
    discrete_gaussian,
    noisy_sum,
    on_grid,
)
from assay.privacy.events import Event
from assay.privacy.randomness import Reader, Stream

RARE = 1e-6


def seeded(seed: int = 1) -> Stream:
    return Stream.open(None, insecure_seed=seed)


def chance(sample: np.ndarray, pmf: np.ndarray, low: int) -> float:
    """P-value of a sample against probabilities of low, low + 1, ..., rare cells joined."""
    expected = pmf * len(sample)
    counts = np.bincount(sample - low, minlength=len(pmf)).astype(float)
    assert len(counts) == len(pmf)
    often = expected >= 10
    counts = np.append(counts[often], counts[~often].sum())
    expected = np.append(expected[often], len(sample) - expected[often].sum())
    return float(stats.chisquare(counts, expected).pvalue)


# the sampler


@pytest.mark.parametrize("sigma", [1, 2, 3, 7, 40])
def test_it_has_exactly_the_probabilities_it_should(sigma: int) -> None:
    sample = discrete_gaussian(seeded(), "test", sigma, 400_000, sigma)
    reach = 12 * sigma
    weights = np.exp(-np.square(np.arange(-reach, reach + 1)) / (2 * sigma**2))
    assert chance(sample, weights / weights.sum(), -reach) > RARE / 5


@pytest.mark.parametrize("scale", [1, 2, 5])
def test_what_it_is_drawn_from_is_laplacian(scale: int) -> None:
    sample = _laplace(Reader(bytes(32)), scale, 400_000)
    reach = 40 * scale
    weights = np.exp(-np.abs(np.arange(-reach, reach + 1)) / scale)
    assert chance(sample, weights / weights.sum(), -reach) > RARE / 3


def test_runs_of_coins_are_geometric() -> None:
    sample = _geometric(Reader(bytes(32)), 400_000)
    pmf = math.exp(-1) ** np.arange(60) * (1 - math.exp(-1))
    assert chance(sample, pmf, 0) > RARE


def test_at_the_size_used_it_is_the_gaussian_down_to_its_last_bits() -> None:
    sample = discrete_gaussian(seeded(), "test", 0, 200_000, SIGMA)
    assert stats.kstest(sample / SIGMA, "norm").pvalue > RARE / 4
    for bits in (1, 4):
        assert stats.chisquare(np.bincount(sample % 2**bits)).pvalue > RARE / 4
    square = np.sum(np.square(sample / SIGMA))
    assert RARE / 8 < stats.chi2.sf(square, len(sample)) < 1 - RARE / 8


def test_one_key_purpose_and_step_is_one_draw() -> None:
    first = discrete_gaussian(seeded(), "a", 0, 1000, SIGMA)
    assert np.array_equal(discrete_gaussian(seeded(), "a", 0, 1000, SIGMA), first)
    for other in (
        discrete_gaussian(seeded(), "a", 1, 1000, SIGMA),
        discrete_gaussian(seeded(), "b", 0, 1000, SIGMA),
        discrete_gaussian(seeded(2), "a", 0, 1000, SIGMA),
    ):
        assert not (other == first).any()
        assert abs(np.corrcoef(first, other)[0, 1]) * math.sqrt(1000) < 5
    assert discrete_gaussian(seeded(), "a", 0, 0, 3).shape == (0,)


@pytest.mark.parametrize("sigma", [0, -1, 2.5, SIGMA + 1])
def test_other_sigmas_are_refused(sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma is an integer"):
        discrete_gaussian(seeded(), "a", 0, 1, sigma)  # type: ignore[arg-type]


@pytest.mark.parametrize("noise", [0.7, 2.0])
def test_its_delta_is_the_gaussian_one(noise: float) -> None:
    """Summed exactly; the difference falls with the square of the steps to a deviation.

    Here these are 2^12, and 2^24 where sums are noised.
    """
    sigma = 2**12
    shift = round(sigma / noise)
    y = np.arange(-40 * sigma, 40 * sigma + 1, dtype=np.float64)
    log_p = -np.square(y) / (2 * sigma**2)
    log_p -= np.log(np.exp(log_p).sum())
    loss = (np.square(y + shift) - np.square(y)) / (2 * sigma**2)
    event = Event(noise_multiplier=sigma / shift)
    for epsilon in (0.5, 1.0, 3.0):
        delta = np.sum(np.exp(log_p) * np.maximum(-np.expm1(epsilon - loss), 0.0))
        claimed = accountant.delta([event], epsilon)
        assert delta <= claimed * (1 + 2 / sigma**2)
        assert delta == pytest.approx(claimed, rel=2e-3)


# the grid

rows = arrays(
    np.float64,
    array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.one_of(
        st.floats(-4, 4), st.sampled_from([0.0, 1.0, -1.0, 1e300, -1e-300, 5e-324, 1e9])
    ),
)
bounds = st.floats(1e-6, 1e9)
noises = st.floats(2**-6, 1000)


@given(rows, bounds, noises)
def test_no_unit_is_longer_on_the_grid_than_the_noise_is_for(
    values: np.ndarray, bound: float, noise: float
) -> None:
    """In exact integers, whatever rounding did: this is all that privacy rests on."""
    grid, step = on_grid(values, bound, noise)
    assert step > 0
    for row in grid.tolist():
        assert sum(v * v for v in row) * Fraction(noise) ** 2 <= SIGMA**2


@given(rows, bounds, st.floats(2**-6, 100))
def test_the_grid_is_finer_than_a_thousandth_of_the_noise(
    values: np.ndarray, bound: float, noise: float
) -> None:
    """Each number is what clipping leaves of it, within a few steps of SIGMA to the noise."""
    grid, step = on_grid(values, bound, noise)
    assert SIGMA * step == pytest.approx(noise * bound, rel=1e-3)
    for row, found in zip(values.tolist(), grid, strict=True):
        factor = min(1.0, bound / max(math.hypot(*row), 1e-300))
        assert found * step == pytest.approx([v * factor for v in row], abs=3 * step)


def test_what_floats_get_wrong_is_mended_in_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A norm that comes out too small would let a unit be longer."""
    monkeypatch.setattr(
        np.linalg, "norm", lambda x, axis, keepdims: np.ones((len(x), 1)) * (1 - 1e-5)
    )
    values = np.tile([0.6, 0.8], (3, 1)) * (1 + 1e-5)
    grid, _ = on_grid(values, 1.0, 1.0)
    assert (np.square(grid).sum(axis=1) <= SIGMA**2).all()
    assert grid[0] / SIGMA == pytest.approx([0.6, 0.8], rel=1e-4)


def test_a_unit_with_a_number_that_is_none_counts_as_zeros() -> None:
    values = np.array([[1.0, np.nan], [np.inf, 0.5], [0.25, 0.5]])
    grid, step = on_grid(values, 10.0, 1.0)
    assert grid[:2].tolist() == [[0, 0], [0, 0]]
    assert grid[2] * step == pytest.approx([0.25, 0.5], rel=1e-5)


@pytest.mark.parametrize(
    ("bound", "noise", "what"),
    [
        (math.inf, 1.0, "finite"),
        (0.0, 1.0, "above 0"),
        (-1.0, 1.0, "above 0"),
        (math.nan, 1.0, "above 0"),
        (1.0, 0.0, "at least"),
        (1.0, 2.0**-7, "at least"),
        (1.0, math.inf, "at least"),
        (1.0, math.nan, "at least"),
    ],
)
def test_bounds_and_noise_out_of_range(bound: float, noise: float, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        noisy_sum(np.ones((2, 1)), bound, noise, seeded(), purpose="x")


def test_more_numbers_than_the_grid_bears() -> None:
    with pytest.raises(UsageError) as caught:
        noisy_sum(np.ones((1, 10_000)), 1.0, 1e6, seeded(), purpose="x")
    assert caught.value.line() == (
        "bounded_sum: 10,000 numbers with a noise multiplier of 1e+06 are finer than the grid; "
        "ask for fewer numbers at once, or spend more on them"
    )


# the sum


@given(rows, st.randoms(use_true_random=False))
def test_the_order_of_units_changes_no_bit(values: np.ndarray, random: object) -> None:
    order = list(range(len(values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    first = noisy_sum(values, 2.0, 1.5, seeded(), purpose="x")
    for other in (values[order], np.asfortranarray(values), values.repeat(2, axis=1)[:, ::2]):
        again = noisy_sum(other, 2.0, 1.5, seeded(), purpose="x")
        assert again.tobytes() == first.tobytes()


@given(rows, rows)
def test_all_that_changes_with_the_units_is_the_integer(one: np.ndarray, two: np.ndarray) -> None:
    """The noise does not depend on the values: a difference of sums is a whole number of steps."""
    width = min(one.shape[1], two.shape[1])
    one, two = one[:, :width], two[:, :width]
    grid_one, step = on_grid(one, 2.0, 1.0)
    grid_two, _ = on_grid(two, 2.0, 1.0)
    first = noisy_sum(one, 2.0, 1.0, seeded(), purpose="x") / step
    second = noisy_sum(two, 2.0, 1.0, seeded(), purpose="x") / step
    assert first == pytest.approx(np.rint(first), abs=1e-4)
    assert np.rint(first) - np.rint(second) == pytest.approx(grid_one.sum(0) - grid_two.sum(0))


@pytest.mark.parametrize(("bound", "noise"), [(1.0, 1.0), (250.0, 0.3), (0.01, 12.0)])
def test_the_noise_is_as_large_as_said(bound: float, noise: float) -> None:
    """About the true sum, with the standard deviation noise * bound, and Gaussian."""
    values = np.random.default_rng(0).normal(size=(40, 5)) * bound / 10
    errors = np.concatenate(
        [
            noisy_sum(values, bound, noise, seeded(), purpose="x", step=t) - values.sum(axis=0)
            for t in range(2000)
        ]
    ) / (noise * bound)
    assert stats.kstest(errors, "norm").pvalue > RARE / 6
    assert RARE / 12 < stats.chi2.sf(np.sum(np.square(errors)), len(errors)) < 1 - RARE / 12


def test_units_are_clipped_and_small_ones_kept() -> None:
    """With as little noise as there can be: the sum is that of clipped units."""
    values = np.array([[3.0, 4.0], [0.3, 0.4], [-300.0, 0.0]])
    found = noisy_sum(values, 1.0, 2.0**-6, seeded(), purpose="x")
    assert found == pytest.approx([0.6 + 0.3 - 1, 0.8 + 0.4], abs=6 * 2.0**-6)


def test_shapes_and_no_units() -> None:
    found = noisy_sum(np.zeros((3, 2, 4)), 1.0, 1.0, seeded(), purpose="x")
    assert found.shape == (2, 4)
    assert np.array_equal(noisy_sum(np.zeros((0, 2, 4)), 1.0, 1.0, seeded(), purpose="x"), found)
    assert noisy_sum(np.zeros((3, 0)), 1.0, 1.0, seeded(), purpose="x").shape == (0,)
    assert noisy_sum(np.ones(5), 1.0, 1.0, seeded(), purpose="x").shape == ()
