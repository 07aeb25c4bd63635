"""The filter: whether one more run, chosen after seeing what came before, may be granted.

An account (a data set and a privacy unit) has a budget (epsilon, delta). Write L for the privacy
loss of all that was ever released, R(a) for the sum of the granted runs' Renyi divergences at
order a, and A for the watched orders, k of them, fixed when the account was first charged. After
each grant one of these must hold, else the run is refused:

1. **Sum.** Every event so far is pure and their epsilons sum to at most epsilon.
2. **Renyi filter.** For some a in A, R(a) is at most `bound(epsilon, delta / k, a)`, and some
   event is not pure.
3. **Alone.** It is the account's first run, and privacy loss distributions bound it by epsilon at
   delta.

Why all runs together are (epsilon, delta)-private, although each may depend on what was released
before. E[(1 - exp(epsilon - L))+] has to be at most delta. Split it by where a history ends.

- Where it ends in 1, L is at most epsilon: nothing is added. So pure accounts are
  (epsilon, 0)-private, whatever delta is.
- At each fixed order, exp((a - 1)(L - R(a))) is a supermartingale (Feldman and Zrnic 2021,
  arXiv 2008.11193), hence its mean over any set of histories is at most 1. Where a history ends
  with R(a) below its bound, (1 - exp(epsilon - L))+ is pointwise at most delta / k times it
  (Canonne et al. 2020, arXiv 2004.00010). An adversary may steer which order is the good one, so
  these k parts are added up: together at most delta. Taking the best of many orders afterwards
  with the whole delta for each would *not* be covered; hence few orders, fixed in advance.
- A first run granted by 3 but not by 2 has R(a) above the bounds of all watched orders. Sums never
  sink, so nothing can ever follow, that history is the only one, and its mean is at most delta.
  (Where 1 or 2 hold later on, they hold for every history from the first run on.)

The owner's changes of the policy are taken to not depend on what was released.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from assay.privacy.accountant import ORDERS
from assay.privacy.ledger.cost import Cost
from assay.privacy.ledger.policy import NANO, Budget, Policy, nano

#: orders nearer to 1 make the conversion to epsilon unstable
_LEAST_ORDER = 1.05
Rule = Literal["sum", "renyi", "alone"]


def bound(epsilon: float, delta: float, order: float) -> int:
    """The most Renyi divergence at `order`, in billionths, that still gives (epsilon, delta).

    Rounded down; negative where the order cannot give it at all (Canonne et al. 2020,
    arXiv 2004.00010, proposition 12).
    """
    most = epsilon - math.log1p(-1 / order) + (math.log(delta) + math.log(order)) / (order - 1)
    return math.floor(most * NANO * (1 - 1e-12)) - 1


def watched(budget: Budget) -> tuple[float, ...]:
    """The orders that a budget's filter watches: its own, or the one that suits Gaussian noise.

    The divergence of Gaussian noise grows with the order, so the best order is the one that
    leaves most of it per order when the budget is used up; Poisson sampling moves it little.
    """
    if budget.delta == 0:
        return ()
    if budget.orders is not None:
        return tuple(sorted(set(budget.orders)))
    fit = [order for order in ORDERS if order >= _LEAST_ORDER]
    return (max(fit, key=lambda order: bound(budget.epsilon, budget.delta, order) / order),)


@dataclass(frozen=True)
class Standing:
    """What an account has been charged.

    Attributes:
        runs: number of runs.
        pure: sum of epsilons in billionths, where all was pure; else None.
        renyi: watched order -> sum of divergences in billionths; None: infinite.
        alone: the cost of the only run; None where there are more or none.
        alone_delta: the delta of `alone`.
    """

    runs: int
    pure: int | None
    renyi: Mapping[float, int | None]
    alone: int | None
    alone_delta: float


def standing(costs: Sequence[Cost], budget: Budget, orders: Sequence[float]) -> Standing:
    """Sum an account's costs, oldest first; the first with orders decides which are watched."""
    pure: int | None = 0
    chosen = next((cost.orders for cost in costs if cost.orders), None) or watched(budget)
    sums: dict[float, int | None] = dict.fromkeys(chosen, 0)
    place = {order: orders.index(order) for order in chosen if order in orders}
    for cost in costs:
        pure = None if pure is None or cost.pure is None else pure + cost.pure
        for order, so_far in sums.items():
            more = cost.renyi[place[order]] if order in place else None
            sums[order] = None if so_far is None or more is None else so_far + more
    only = costs[0] if len(costs) == 1 else None
    return Standing(
        len(costs), pure, sums, only.epsilon if only else None, only.delta if only else 0.0
    )


def bounds(budget: Budget, chosen: Iterable[float]) -> dict[float, int]:
    """Watched order -> the most that its sum may be, in billionths."""
    chosen = list(chosen)
    if budget.delta == 0:
        return {}
    return {order: bound(budget.epsilon, budget.delta / len(chosen), order) for order in chosen}


def allowed(after: Standing, budget: Budget) -> Rule | None:
    """The rule by which an account may stand there; None: it may not. See the module."""
    most = math.floor(nano(budget.epsilon))
    if after.pure is not None and after.pure <= most:
        return "sum"
    if after.pure is None:
        for order, limit in bounds(budget, after.renyi).items():
            total = after.renyi[order]
            if total is not None and total <= limit:
                return "renyi"
    good = after.alone is not None and after.alone_delta <= budget.delta
    return "alone" if good and after.alone is not None and after.alone <= most else None


def spent(now: Standing, budget: Budget) -> int | None:
    """The least epsilon that can be promised for what was granted, in billionths; None: infinite.

    Each further run adds its divergence to it; the first that is not pure costs the conversion
    from divergences to epsilon as well.
    """
    if now.runs == 0:
        return 0
    found = [now.pure] if now.pure is not None else []
    if now.alone is not None and now.alone_delta <= budget.delta:
        found.append(now.alone)
    if now.pure is None:
        most = math.floor(nano(budget.epsilon))
        for order, limit in bounds(budget, now.renyi).items():
            total = now.renyi[order]
            if total is not None:
                found.append(max(0, most + total - limit))
    return min(found) if found else None


def share(now: Standing, budget: Budget) -> float:
    """How much of the budget is used, 0..1 and beyond."""
    most = math.floor(nano(budget.epsilon))
    if now.pure is not None:
        return now.pure / most
    used = [
        total / limit
        for order, limit in bounds(budget, now.renyi).items()
        if (total := now.renyi[order]) is not None and limit > 0
    ]
    return min(used, default=math.inf)


def accounts(costs: Iterable[Cost], policy: Policy) -> dict[tuple[str, str], list[Cost]]:
    """Account -> its costs, oldest first; data that the policy knows no more keep their own."""
    found: dict[tuple[str, str], list[Cost]] = {}
    for cost in costs:
        budget = policy.budget(*cost.about)
        key = budget.account(*cost.about) if budget is not None else cost.about
        found.setdefault(key, []).append(cost)
    return found
