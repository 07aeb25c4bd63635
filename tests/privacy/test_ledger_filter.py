"""The filter: bounds that are right, adversaries that gain nothing, integers that err one way."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.privacy import accountant
from assay.privacy.accountant import ORDERS
from assay.privacy.events import Event
from assay.privacy.ledger.advice import noise_factor
from assay.privacy.ledger.cost import Cost, cost_of, pure_sum, rounded_up
from assay.privacy.ledger.filter import (
    Standing,
    allowed,
    bound,
    bounds,
    share,
    spent,
    standing,
    watched,
)
from assay.privacy.ledger.policy import NANO, Budget, nano


def gaussian(noise: float, sampling: float = 1.0, steps: int = 1) -> Event:
    return Event(noise_multiplier=noise, sampling=sampling, steps=steps)


def pure(epsilon: float, steps: int = 1) -> Event:
    return Event(mechanism="pure", epsilon=epsilon, steps=steps)


def priced(budget: Budget, *events: Event) -> Cost:
    return cost_of(events, budget.delta, ORDERS, watched(budget))


# -- integers ------------------------------------------------------------------------------------


def test_a_tenth_is_a_tenth() -> None:
    """The double nearest to 0.1 is more than that: ten of them would not fit into 1."""
    assert Fraction(0.1) > Fraction(1, 10)
    assert pure_sum([pure(0.1)] * 10) == NANO == pure_sum([pure(0.1, steps=10)])
    assert nano(1e-5) == 10_000
    assert pure_sum([pure(1.5e-9)]) == 2
    assert pure_sum([pure(1e-300)]) == 1
    assert pure_sum([pure(0.1), gaussian(1.0)]) is None


@given(st.floats(0, 1e8))
def test_divergences_are_rounded_up(value: float) -> None:
    found = rounded_up(value)
    assert found is not None
    assert found >= Fraction(value) * NANO
    assert found <= Fraction(value) * NANO * (1 + Fraction(1, 10**8)) + 1


@pytest.mark.parametrize("value", [math.inf, math.nan, -1e-9, 1e10])
def test_what_is_no_divergence_is_infinite(value: float) -> None:
    assert rounded_up(value) is None


def test_whatever_is_released_costs_something() -> None:
    cost = priced(Budget(epsilon=1, delta=1e-5), gaussian(1e12))
    assert cost.epsilon is not None and cost.epsilon >= 1
    assert all(one is not None and one >= 1 for one in cost.renyi)


def test_costs_are_read_as_they_were_stored() -> None:
    cost = priced(Budget(epsilon=1, delta=1e-5), gaussian(2.0, 0.1, 10), pure(0.25))
    assert Cost.read(cost.plain()) == cost
    text = repr(cost.plain())
    assert not [one for one in cost.plain()["renyi"] if type(one) is not int]
    assert "0.25" not in text
    for bad in (1.5, -1, True, "7"):
        with pytest.raises(ValueError, match="whole number"):
            Cost.read({**cost.plain(), "epsilon": bad})


# -- bounds --------------------------------------------------------------------------------------


@given(st.floats(0.1, 20), st.floats(1e-12, 0.1), st.sampled_from([2.0, 4.4, 7.5, 18.0, 64.0]))
def test_a_bound_is_the_most_that_keeps_epsilon(epsilon: float, delta: float, order: float) -> None:
    most = bound(epsilon, delta, order) / NANO
    if most <= 0.01:
        return
    found = accountant.from_renyi([most], delta, [order])
    assert found <= epsilon
    if found > 0:  # at tiny divergences the library knows a better bound
        assert found == pytest.approx(epsilon, rel=1e-6)


@pytest.mark.parametrize(("epsilon", "delta"), [(1.0, 1e-5), (3.0, 1e-5), (8.0, 1e-6)])
def test_the_order_fixed_in_advance_loses_little(epsilon: float, delta: float) -> None:
    """Beside the best order in hindsight, which no filter may take."""
    budget = Budget(epsilon=epsilon, delta=delta)
    (order,) = watched(budget)
    for event in (gaussian(40.0), gaussian(1.5, 256 / 60000, 1000), gaussian(5.0, 0.1, 20)):
        divergences = accountant.renyi([event])
        runs = {
            a: bound(epsilon, delta, a) / NANO / r
            for a, r in zip(ORDERS, divergences, strict=True)
            if a > 1.05
        }
        assert runs[order] >= 0.98 * max(runs.values())


def test_several_orders_share_delta() -> None:
    one, two = (Budget(epsilon=3, delta=1e-5, orders=orders) for orders in ((8.0,), (8.0, 4.0)))
    assert watched(two) == (4.0, 8.0)
    assert bounds(two, watched(two))[8.0] == bound(3, 5e-6, 8.0) < bounds(one, (8.0,))[8.0]
    with pytest.raises(ValueError, match="1 to 8 orders"):
        Budget(epsilon=3, delta=1e-5, orders=())


# -- rules ---------------------------------------------------------------------------------------


def test_pure_runs_add_up_exactly() -> None:
    budget = Budget(epsilon=1.0, delta=1e-5)
    cost = priced(budget, pure(0.1))
    assert allowed(standing([cost] * 10, budget, ORDERS), budget) == "sum"
    assert allowed(standing([cost] * 11, budget, ORDERS), budget) is None
    assert spent(standing([cost] * 7, budget, ORDERS), budget) == 700_000_000
    assert share(standing([cost] * 7, budget, ORDERS), budget) == pytest.approx(0.7)


def test_many_noised_runs_cost_less_than_their_sum() -> None:
    budget = Budget(epsilon=3.0, delta=1e-5)
    cost = priced(budget, gaussian(40.0))
    assert cost.epsilon is not None
    granted = next(
        n for n in itertools.count(1) if not allowed(standing([cost] * n, budget, ORDERS), budget)
    )
    assert granted * cost.epsilon > 10 * 3 * NANO
    # and yet together they keep the promise
    assert accountant.epsilon([gaussian(40.0, steps=granted - 1)], 1e-5) <= 3.0


def test_a_single_run_may_use_all_that_distributions_allow() -> None:
    budget = Budget(epsilon=3.0, delta=1e-5)
    noise = accountant.noise_multiplier(3.0, 1e-5, 0.01, 2000)
    first = priced(budget, gaussian(noise, 0.01, 2000))
    assert allowed(standing([first], budget, ORDERS), budget) == "alone"
    assert spent(standing([first], budget, ORDERS), budget) == first.epsilon
    for more in (gaussian(1e6), pure(1e-6)):
        after = standing([first, priced(budget, more)], budget, ORDERS)
        assert allowed(after, budget) is None


def test_without_delta_noise_is_refused() -> None:
    budget = Budget(epsilon=100.0)
    assert watched(budget) == ()
    assert allowed(standing([priced(budget, gaussian(100.0))], budget, ORDERS), budget) is None
    assert allowed(standing([priced(budget, pure(100.0))], budget, ORDERS), budget) == "sum"
    assert allowed(standing([priced(budget, pure(100.1))], budget, ORDERS), budget) is None


def test_the_first_run_decides_which_orders_are_watched() -> None:
    before, after = Budget(epsilon=1.0, delta=1e-5), Budget(epsilon=9.0, delta=1e-5)
    costs = [priced(before, gaussian(20.0)), priced(after, gaussian(20.0))]
    assert watched(before) != watched(after)
    assert tuple(standing(costs, after, ORDERS).renyi) == watched(before)
    pure_only = priced(Budget(epsilon=1.0), pure(0.1))
    assert tuple(standing([pure_only, costs[1]], after, ORDERS).renyi) == watched(after)


def test_what_is_spent_grows_by_each_runs_divergence() -> None:
    budget = Budget(epsilon=3.0, delta=1e-5)
    cost = priced(budget, gaussian(30.0))
    order = watched(budget)[0]
    steps = [spent(standing([cost] * n, budget, ORDERS), budget) for n in (2, 3, 4)]
    assert None not in steps
    one = cost.renyi[ORDERS.index(order)]
    assert steps[1] - steps[0] == steps[2] - steps[1] == one  # type: ignore[operator]
    whole = accountant.from_renyi([x * 4 for x in accountant.renyi([gaussian(30.0)])], 1e-5)
    assert steps[2] / NANO >= whole  # type: ignore[operator]


# -- adversaries ---------------------------------------------------------------------------------

#: how far ahead it is -> which of its mechanisms an adversary uses next
Strategy = Callable[[float], int]


def hockey_stick(
    strategy: Strategy, epsilons: tuple[float, ...], budget: Budget, filtered: Budget
) -> float:
    """The exact delta at the budget's epsilon of an adversary's whole history.

    Before each answer it looks at the privacy loss so far and chooses one of its randomised
    responses; what the filter of `filtered` refuses ends the history. Neighbours answer with
    opposite coins.
    """
    order = watched(filtered)
    costs = [[rounded_up(min(e, a * e**2 / 2)) or 0 for a in order] for e in epsilons]
    n = len(epsilons)

    @cache
    def after(ups: tuple[int, ...], downs: tuple[int, ...]) -> float:
        loss = sum(e * (u - d) for e, u, d in zip(epsilons, ups, downs, strict=True))
        pick = strategy(loss)
        counts = [u + d + (i == pick) for i, (u, d) in enumerate(zip(ups, downs, strict=True))]
        sums: dict[float, int | None] = {
            a: sum(c * costs[i][k] for i, c in enumerate(counts)) for k, a in enumerate(order)
        }
        if not allowed(Standing(sum(counts), None, sums, None, 0.0), filtered):
            return max(0.0, -math.expm1(budget.epsilon - loss))
        p = 1 / (1 + math.exp(-epsilons[pick]))
        one = tuple(int(i == pick) for i in range(n))
        up = tuple(u + x for u, x in zip(ups, one, strict=True))
        down = tuple(d + x for d, x in zip(downs, one, strict=True))
        return p * after(up, downs) + (1 - p) * after(ups, down)

    return after((0,) * n, (0,) * n)


@settings(max_examples=25)
@given(
    st.sampled_from([None, (2.0, 4.0), (1.5, 3.0, 9.0)]),
    st.tuples(st.floats(0.15, 0.4), st.floats(0.3, 1.2)),
    st.lists(st.floats(-1, 2), min_size=1, max_size=3, unique=True),
    st.integers(0, 1),
)
def test_no_adversary_gains_by_looking(
    orders: tuple[float, ...] | None,
    epsilons: tuple[float, float],
    turns: list[float],
    first: int,
) -> None:
    budget = Budget(epsilon=1.0, delta=0.1, orders=orders)

    def strategy(loss: float) -> int:
        return (first + sum(loss > turn for turn in turns)) % 2

    assert hockey_stick(strategy, epsilons, budget, budget) <= budget.delta


def test_a_filter_that_is_too_wide_would_be_found_out() -> None:
    """What the test before looks for is there to be found."""
    budget = Budget(epsilon=1.0, delta=0.1)

    def steady(loss: float) -> int:
        return 0

    assert 0 < hockey_stick(steady, (0.25,), budget, budget) <= 0.1
    wide = Budget(epsilon=4.0, delta=0.1)
    assert hockey_stick(steady, (0.25,), budget, wide) > 0.1


# -- advice --------------------------------------------------------------------------------------


@pytest.mark.parametrize("earlier", [0, 2])
def test_the_noise_that_is_advised_is_granted(earlier: int) -> None:
    budget = Budget(epsilon=2.0, delta=1e-5)
    costs = [priced(budget, gaussian(1.5, 256 / 60000, 4000))] * earlier
    wanted = gaussian(0.9, 256 / 60000, 8000)
    assert allowed(standing([*costs, priced(budget, wanted)], budget, ORDERS), budget) is None
    factor = noise_factor([wanted], standing(costs, budget, ORDERS), budget)
    assert factor is not None and factor > 1
    louder = gaussian(0.9 * factor, 256 / 60000, 8000)
    assert allowed(standing([*costs, priced(budget, louder)], budget, ORDERS), budget)
    softer = gaussian(0.9 * factor * 0.97, 256 / 60000, 8000)
    assert allowed(standing([*costs, priced(budget, softer)], budget, ORDERS), budget) is None
