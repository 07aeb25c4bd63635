"""What the rows of a ledger say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from assay.config import build
from assay.errors import ArtefactError, AssayError, BudgetError
from assay.privacy.events import Event
from assay.privacy.ledger.chain import MEND, Row
from assay.privacy.ledger.cost import Cost, cost_of
from assay.privacy.ledger.filter import accounts, allowed, standing, watched
from assay.privacy.ledger.policy import Budget, Policy, Request, nano, shown


def ledger_of(rows: Sequence[Row]) -> str:
    """The identity of a ledger."""
    return str(rows[0].body["ledger"])


def orders_of(rows: Sequence[Row]) -> tuple[float, ...]:
    """The Renyi orders at which a ledger keeps divergences."""
    return tuple(float(order) for order in rows[0].body["orders"])


def policy_of(rows: Sequence[Row]) -> tuple[Policy, int]:
    """The policy in force after rows, and the number of its row.

    Raises:
        ArtefactError: it cannot be understood (a later version wrote it).
    """
    row = next(row for row in reversed(rows) if row.kind in ("open", "policy"))
    return policy_in(row), row.seq


def policy_in(row: Row) -> Policy:
    """The policy that a row puts in force.

    Raises:
        ArtefactError: it cannot be understood (a later version wrote it).
    """
    try:
        return build(Policy, row.body["policy"])
    except (AssayError, KeyError) as error:
        raise ArtefactError(
            f"its policy cannot be understood: {error}", where=f"row {row.seq}", mend=MEND
        ) from None


def groups(events: Iterable[Event]) -> dict[tuple[str, str], list[Event]]:
    """(data, unit) -> the events about it, in a fixed order."""
    found: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        found.setdefault(event.about, []).append(event)
    return dict(sorted(found.items()))


def costs_in(row: Row) -> list[Cost]:
    """What a row charges.

    Raises:
        ArtefactError: it cannot be understood.
    """
    try:
        return [Cost.read(item) for item in row.body.get("costs", ())]
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(
            f"its costs cannot be understood: {error}", where=f"row {row.seq}", mend=MEND
        ) from None


class Overdrawn(NamedTuple):
    """An account that a run would overdraw.

    Attributes:
        costs: what it was charged, oldest first.
        cost: of the run.
        budget: its budget.
        orders: of the ledger.
    """

    costs: list[Cost]
    cost: Cost
    budget: Budget
    orders: tuple[float, ...]


def overdrawn(rows: Sequence[Row], costs: Sequence[Cost]) -> Overdrawn | None:
    """The first account that more costs would overdraw, if there is one."""
    old = [cost for row in rows for cost in costs_in(row)]
    return overdrawn_by(old, costs, policy_of(rows)[0], orders_of(rows))


def overdrawn_by(
    old: Sequence[Cost], fresh: Sequence[Cost], policy: Policy, orders: tuple[float, ...]
) -> Overdrawn | None:
    """The first account that `fresh` costs would overdraw after `old` ones, if there is one.

    Raises:
        ValueError: there is no budget for one of them.
    """
    before = accounts(old, policy)
    for key, more in accounts(fresh, policy).items():
        budget = policy.budget(*more[-1].about)
        if budget is None:
            raise ValueError(f"no budget for {key}")
        so_far = before.get(key, [])
        if allowed(standing([*so_far, *more], budget, orders), budget) is None:
            return Overdrawn(so_far, more[-1], budget, orders)
    return None


def costs_of(
    request: Request, policy: Policy, orders: Sequence[float], where: str
) -> tuple[Cost, ...]:
    """What a request costs of each data set and unit, in a fixed order.

    Raises:
        BudgetError: a data set and unit has no budget.
    """
    found = []
    for (data, unit), events in groups(request.events).items():
        budget = policy.budget(data, unit)
        if budget is None:
            raise BudgetError(
                f"the owner's policy has no budget for the data {data!r} by {unit!r}",
                where=where,
                mend="ask the owner for one",
            )
        found.append(cost_of(events, budget.delta, orders, watched(budget)))
    return tuple(found)


def refuse_expensive(policy: Policy, costs: Iterable[Cost], where: str) -> None:
    """Check what one run may cost.

    Raises:
        BudgetError: it is more than the policy allows.
    """
    most = policy.largest_epsilon
    for cost in costs:
        if most is not None and (cost.epsilon is None or cost.epsilon > nano(most)):
            raise BudgetError(
                f"the run costs epsilon {shown(cost.epsilon)} of the data {cost.data!r}, more "
                f"than the {most:g} that the policy allows one run",
                where=where,
                mend="add noise or take fewer steps",
            )
