"""What a refused run could do instead."""

from __future__ import annotations

import math
from collections.abc import Sequence

from assay.privacy import accountant
from assay.privacy.events import Event
from assay.privacy.ledger.cost import Cost, pure_sum, rounded_up
from assay.privacy.ledger.filter import Standing, allowed, bounds, share, standing
from assay.privacy.ledger.policy import Budget, nano, shown

_MOST = 1000.0


def percent(part: float) -> str:
    """A part of a whole, for readers."""
    return f"{100 * part:.3g}%" if math.isfinite(part) else "more than all"


def _louder(events: Sequence[Event], factor: float) -> list[Event]:
    return [
        event.model_copy(update={"noise_multiplier": event.noise_multiplier * factor})
        if event.noise_multiplier is not None
        else event
        for event in events
    ]


def _fits(events: Sequence[Event], before: Standing, budget: Budget) -> bool:
    """Whether events would be granted; by what is quickly computed."""
    if before.runs == 0:
        found = rounded_up(accountant.epsilon(events, budget.delta, 1e-3))
        if found is not None and found <= math.floor(nano(budget.epsilon)):
            return True
    orders = tuple(before.renyi)
    more = tuple(rounded_up(float(one), 1) for one in accountant.renyi(events, orders))
    sums: dict[float, int | None] = {}
    for order, one in zip(orders, more, strict=True):
        so_far = before.renyi[order]
        sums[order] = None if so_far is None or one is None else so_far + one
    return allowed(Standing(before.runs + 1, None, sums, None, 0.0), budget) is not None


def noise_factor(events: Sequence[Event], before: Standing, budget: Budget) -> float | None:
    """The least factor (to two digits) on all noise with which events would be granted.

    None: no factor up to 1000 is enough, or nothing of them is Gaussian.
    """
    if budget.delta == 0 or pure_sum(events) is not None:
        return None
    if not _fits(_louder(events, _MOST), before, budget):
        return None
    low, high = 1.0, _MOST
    while high > 1.005 * low:
        middle = math.sqrt(low * high)
        low, high = (
            (low, middle) if _fits(_louder(events, middle), before, budget) else (middle, high)
        )
    return math.ceil(high * 100) / 100


def left(now: Standing, budget: Budget) -> int:
    """How much epsilon is left, in billionths: pure, or as divergence at the best watched order."""
    if now.pure is not None:
        return max(0, math.floor(nano(budget.epsilon)) - now.pure)
    rest = [
        limit - total
        for order, limit in bounds(budget, now.renyi).items()
        if (total := now.renyi[order]) is not None
    ]
    return max(0, max(rest, default=0))


def refusal(
    costs: Sequence[Cost],
    cost: Cost,
    events: Sequence[Event],
    budget: Budget,
    orders: Sequence[float],
) -> tuple[str, str]:
    """(what is wrong, how to mend it) of a run that the filter refuses.

    Args:
        costs: what the account was charged, oldest first.
        cost: of the refused run.
        events: its events.
        budget: the account's.
        orders: of the ledger.
    """
    before = standing(costs, budget, orders)
    rest = left(before, budget)
    what = (
        f"the run costs epsilon {shown(cost.epsilon)} of the data {cost.data!r} by {cost.unit!r}, "
    )
    whole = f"the budget of {budget.epsilon:g} at delta {budget.delta:g}"
    if before.pure is not None and cost.pure is not None:
        what += f"and {shown(rest)} of {whole} is left"
    else:
        used = share(before, budget)
        needed = share(standing([*costs, cost], budget, orders), budget) - used
        what += f"{percent(needed)} of {whole}, of which {percent(max(0.0, 1 - used))} is left"
    if rest == 0:
        return what, "ask the owner for a larger budget"
    if budget.delta == 0 and cost.pure is None:
        return what, "use pure mechanisms, or ask the owner for a budget with a delta"
    if cost.pure is not None and before.pure is not None:
        return what, f"spend at most {shown(rest)}, or ask the owner for a larger budget"
    factor = noise_factor(events, before, budget)
    if factor is None:
        return what, "release less, or ask the owner for a larger budget"
    return what, f"multiply the noise by at least {factor:g}, or ask the owner for a larger budget"
