"""What the rows of a ledger say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from assay.config import build
from assay.errors import ArtefactError, AssayError
from assay.privacy.ledger.chain import MEND, Row
from assay.privacy.ledger.cost import Cost
from assay.privacy.ledger.filter import accounts, allowed, standing
from assay.privacy.ledger.policy import Budget, Policy


def orders_of(rows: Sequence[Row]) -> tuple[float, ...]:
    """The Renyi orders at which a ledger keeps divergences."""
    return tuple(float(order) for order in rows[0].body["orders"])


def policy_of(rows: Sequence[Row]) -> tuple[Policy, int]:
    """The policy in force after rows, and the number of its row.

    Raises:
        ArtefactError: it cannot be understood (a later version wrote it).
    """
    row = next(row for row in reversed(rows) if row.kind in ("open", "policy"))
    try:
        return build(Policy, row.body["policy"]), row.seq
    except (AssayError, KeyError) as error:
        raise ArtefactError(
            f"its policy cannot be understood: {error}", where=f"row {row.seq}", mend=MEND
        ) from None


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
    policy, _ = policy_of(rows)
    orders = orders_of(rows)
    old = accounts((cost for row in rows for cost in costs_in(row)), policy)
    for key, fresh in accounts(costs, policy).items():
        before = old.get(key, [])
        budget = policy.budget(*fresh[-1].about)
        if budget is None:  # a run is priced by the policy in force, which covers all it reads
            raise ValueError(f"no budget for {key}")
        if allowed(standing([*before, *fresh], budget, orders), budget) is None:
            return Overdrawn(before, fresh[-1], budget, orders)
    return None
