"""Recompute everything that a ledger says from what it says was used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assay.config import Config, build
from assay.errors import ArtefactError, AssayError, BudgetError
from assay.files import canonical_json, sha256
from assay.privacy.events import Event
from assay.privacy.ledger.chain import MEND, Row
from assay.privacy.ledger.cost import Cost, cost_of
from assay.privacy.ledger.grants import refuse_without_grant
from assay.privacy.ledger.policy import Policy, Request, refuse_by_policy
from assay.privacy.ledger.reading import (
    costs_in,
    groups,
    ledger_of,
    orders_of,
    overdrawn_by,
    policy_in,
    refuse_expensive,
)

#: other releases of the accountant may differ by as much
_RENYI, _EPSILON = 1e-6, 1e-3


class Audited(Config):
    """What an audit went through.

    Attributes:
        rows: number of rows.
        runs: how many of them charge a run.
        policies: how many put a policy in force.
        last: digest of the last row.
    """

    rows: int
    runs: int
    policies: int
    last: str


def audit(rows: Sequence[Row], where: str) -> Audited:
    """Recompute every charge, and decide every grant again by the policy that was in force.

    Args:
        rows: of a checked chain.
        where: for messages.

    Raises:
        ArtefactError: a run was charged less than it costs, or granted what its policy refused.
    """
    orders = orders_of(rows)
    policy, number = policy_in(rows[0]), 0
    costs: list[Cost] = []
    for row in rows[1:]:
        here = f"{where}: row {row.seq}"
        if row.kind == "policy":
            policy, number = policy_in(row), row.seq
            continue
        fresh = costs_in(row)
        problem = _undercharged(row, fresh, policy, orders, here)
        if problem is None:
            problem = _not_permitted(rows, row, fresh, policy, here)
        if problem is None and row.body.get("policy") != number:
            problem = "it was granted by another policy than the one in force"
        if problem is None and overdrawn_by(costs, fresh, policy, orders) is not None:
            problem = "the budget in force did not allow it"
        if problem is not None:
            raise ArtefactError(problem, where=here, mend=MEND)
        costs += fresh
    spends = sum(row.kind == "spend" for row in rows)
    return Audited(rows=len(rows), runs=spends, policies=len(rows) - spends, last=rows[-1].digest)


def _undercharged(
    row: Row, fresh: Sequence[Cost], policy: Policy, orders: Sequence[float], where: str
) -> str | None:
    asked: Any = row.body.get("request")
    try:
        request = build(Request, asked, where)
    except AssayError as error:
        return f"its request cannot be understood: {error.what}"
    if sha256(canonical_json(asked)) != row.body.get("digest") or request.plain() != asked:
        return "its request is not the one that its digest names"
    wanted = groups(request.events)
    if [cost.about for cost in fresh] != list(wanted):
        return "it charges other data than its events are about"
    for cost in fresh:
        if policy.budget(*cost.about) is None:
            return f"there was no budget for the data {cost.data!r} by {cost.unit!r}"
        if _less(cost, wanted[cost.about], orders):
            return f"it charges less of the data {cost.data!r} than its events cost"
    return None


def _not_permitted(
    rows: Sequence[Row], row: Row, costs: Sequence[Cost], policy: Policy, where: str
) -> str | None:
    """Why the policy in force, budgets apart, did not allow a run; None: it did."""
    request = build(Request, {**row.body["request"], "grant": row.body.get("permission")}, where)
    used = [str(one.body["grant"]) for one in rows[: row.seq] if one.body.get("grant")]
    try:
        refuse_by_policy(policy, request, where)
        refuse_expensive(policy, costs, where)
        grant = refuse_without_grant(policy, request, costs, ledger_of(rows), used, where)
    except BudgetError as error:
        return error.what
    return None if grant == row.body.get("grant") else "it names another grant than it used"


def _less(cost: Cost, events: Sequence[Event], orders: Sequence[float]) -> bool:
    again = cost_of(events, cost.delta, orders, cost.orders)
    pairs = [
        (cost.epsilon, again.epsilon, _EPSILON),
        *((a, b, _RENYI) for a, b in zip(cost.renyi, again.renyi, strict=True)),
    ]
    return cost.pure != again.pure or any(
        charged is not None and (found is None or charged + 2 < found * (1 - lost))
        for charged, found, lost in pairs
    )
