"""The accountant: published values, closed forms, grouping, and noise that meets a target."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import UsageError
from assay.privacy import accountant
from assay.privacy.events import Event, read_events


def gaussian(noise: float, sampling: float = 1.0, steps: int = 1) -> Event:
    return Event(noise_multiplier=noise, sampling=sampling, steps=steps)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (gaussian(1.1, 256 / 60000, 14062), 2.382),
        (gaussian(1.0, 0.01, 1000), 1.828),
    ],
)
def test_values_that_others_measured(event: Event, expected: float) -> None:
    assert accountant.epsilon([event], 1e-5) == pytest.approx(expected, abs=2e-3)


def _gaussian_delta(noise: float, epsilon: float) -> float:
    """Balle and Wang 2018, arXiv 1805.06530, equation 6."""

    def phi(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2))

    a = 1 / (2 * noise)
    return phi(a - epsilon * noise) - math.exp(epsilon) * phi(-a - epsilon * noise)


@pytest.mark.parametrize("noise", [0.8, 2.0, 5.0])
def test_one_gaussian_has_a_closed_form(noise: float) -> None:
    found = accountant.epsilon([gaussian(noise)], 1e-5)
    assert _gaussian_delta(noise, found) <= 1e-5
    assert _gaussian_delta(noise, found - 2e-3) > 1e-5
    assert accountant.delta([gaussian(noise)], found) == pytest.approx(1e-5, rel=0.05)


def test_gaussians_compose_to_one_of_less_noise() -> None:
    """N releases with noise s tell as much as one with noise s / sqrt(N)."""
    many = accountant.epsilon([gaussian(8.0, steps=16)], 1e-5)
    assert many == pytest.approx(accountant.epsilon([gaussian(2.0)], 1e-5), abs=5e-3)


def test_neither_order_nor_grouping_matters() -> None:
    a, b = gaussian(2.0, 0.1, 50), gaussian(3.0)
    whole = accountant.epsilon([a, b], 1e-5)
    halves = [gaussian(2.0, 0.1, 25), b, gaussian(2.0, 0.1, 25)]
    assert accountant.epsilon([b, a], 1e-5) == whole == accountant.epsilon(halves, 1e-5)
    assert whole > max(accountant.epsilon([e], 1e-5) for e in (a, b))


def test_pure_events_add_up() -> None:
    events = [Event(mechanism="pure", epsilon=0.1, steps=10)]
    assert accountant.epsilon(events, 1e-12) == pytest.approx(1.0, rel=1e-6)
    assert accountant.epsilon([*events, gaussian(5.0)], 1e-5) > 1.0


def test_no_noise_is_no_privacy() -> None:
    events = [gaussian(0.0, 0.01, 10), gaussian(5.0)]
    assert accountant.epsilon(events, 1e-5) == math.inf
    assert accountant.delta(events, 100.0) == 1.0
    assert accountant.renyi(events) == [math.inf] * len(accountant.ORDERS)
    assert accountant.epsilon([], 1e-5) == 0.0


@pytest.mark.parametrize(("sampling", "steps"), [(0.1, 100), (0.5, 7), (1.0, 1)])
@pytest.mark.parametrize("target", [0.5, 3.0])
def test_the_found_noise_meets_its_target_and_no_less_would(
    target: float, sampling: float, steps: int
) -> None:
    noise = accountant.noise_multiplier(target, 1e-5, sampling, steps)
    assert accountant.epsilon([gaussian(noise, sampling, steps)], 1e-5) <= target
    assert accountant.epsilon([gaussian(noise - 0.002, sampling, steps)], 1e-5) > target


def test_an_unreachable_target_is_refused() -> None:
    with pytest.raises(UsageError, match="no noise gives epsilon"):
        accountant.noise_multiplier(1e-9, 1e-12, 1.0, 10**6)


def test_the_curve_ends_with_the_whole() -> None:
    points = accountant.curve(1.0, 1e-5, 0.01, 1000)
    assert [n for n, _ in points][-1] == 1000
    assert [e for _, e in points] == sorted(e for _, e in points)
    assert points[-1][1] == pytest.approx(1.828, abs=0.02)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.6, 5), st.floats(0.01, 1.0), st.integers(1, 200))
def test_renyi_never_promises_more_than_distributions(
    noise: float, sampling: float, steps: int
) -> None:
    event = gaussian(noise, sampling, steps)
    loose = accountant.from_renyi(accountant.renyi([event]), 1e-5)
    assert loose >= accountant.epsilon([event], 1e-5, 1e-3) - 0.02


def test_renyi_of_a_gaussian_is_a_line() -> None:
    found = accountant.renyi([gaussian(2.0, steps=3)], [2.0, 8.0])
    assert found == pytest.approx([3 * 2 / 8, 3 * 8 / 8])
    pure = accountant.renyi([Event(mechanism="pure", epsilon=0.5)], [2.0, 64.0])
    assert pure == pytest.approx([0.25, 0.5])


@pytest.mark.parametrize(
    "bad",
    [
        {"noise_multiplier": -1.0},
        {"noise_multiplier": math.nan},
        {"noise_multiplier": 1.0, "epsilon": 1.0},
        {"mechanism": "pure"},
        {"mechanism": "pure", "epsilon": math.inf},
        {"mechanism": "pure", "epsilon": 1.0, "sampling": 0.5},
        {"noise_multiplier": 1.0, "sampling": 0.0},
        {"noise_multiplier": 1.0, "steps": 0},
    ],
)
def test_what_is_no_event_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        read_events([bad])
