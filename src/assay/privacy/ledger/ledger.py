"""The ledger of a data owner: what was ever spent of its people's privacy, and what is left.

A run reserves its whole cost before it reads a row. What is granted is never given back: a run
that fails after it has read has learnt something. See `filter` for when a run is granted, `chain`
and `mark` for how tampering and restored copies show, `store` for what is durable when.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from assay.config import Config, dump
from assay.errors import BudgetError
from assay.privacy.accountant import ORDERS
from assay.privacy.ledger import mark as marks
from assay.privacy.ledger.advice import left, refusal
from assay.privacy.ledger.chain import Row, Stored, next_row, now, verify
from assay.privacy.ledger.cost import Cost
from assay.privacy.ledger.filter import accounts, share, spent, standing
from assay.privacy.ledger.grants import refuse_without_grant
from assay.privacy.ledger.policy import (
    NANO,
    Budget,
    Policy,
    Request,
    refuse_by_policy,
    refuse_strange,
    stored,
)
from assay.privacy.ledger.reading import (
    Overdrawn,
    costs_in,
    costs_of,
    ledger_of,
    orders_of,
    overdrawn,
    policy_of,
    refuse_expensive,
)
from assay.privacy.ledger.review import Audited, audit
from assay.privacy.ledger.site import Site
from assay.privacy.ledger.store import Store


class Charge(Config):
    """What a run was charged of one data set and unit; epsilon at delta, by the run alone."""

    data: str
    unit: str
    epsilon: float | None
    delta: float


class Receipt(Config):
    """That a run may go on, and what it was charged.

    Attributes:
        ledger: identity of the ledger.
        run: the run.
        row: number of its row.
        digest: SHA-256 of the row.
        request: digest of what it asked for.
        charged: by data set and unit.
    """

    ledger: str
    run: str
    row: int
    digest: str
    request: str
    charged: tuple[Charge, ...]


class Balance(Config):
    """How an account stands.

    Attributes:
        data: the data set, or the pattern of those that share the budget.
        unit: the privacy unit.
        epsilon: the budget.
        delta: of the budget.
        spent: the least epsilon at `delta` that can be promised for what was granted; None:
            infinite. The first run that is not pure adds what it costs to turn Renyi divergences
            into an epsilon.
        left: epsilon that pure runs may still spend, or Renyi divergence at the watched order.
        share: how much of the budget is used, 0..1; None: infinite.
        runs: number of runs.
    """

    data: str
    unit: str
    epsilon: float
    delta: float
    spent: float | None
    left: float
    share: float | None
    runs: int


class Ledger:
    """What was spent, and what may be.

    Attributes:
        site: where it is kept.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self._store = Store(site.place)
        self._known: list[tuple[Stored, Row]] = []

    @property
    def where(self) -> str:
        """Its name in messages."""
        return str(self.site.folder) if self.site.folder is not None else self._store.where

    @classmethod
    def open(cls, place: str | Path) -> Self:
        """Open a ledger by the site's folder, or by the URL of a database (then without a mark).

        Raises:
            LoadError: there is none, or a library is missing.
            ArtefactError: it is damaged.
        """
        return cls(Site.read(place))

    @classmethod
    def create(cls, place: str | Path, *, policy: Policy, url: str | None = None) -> Self:
        """Make a ledger: a folder that holds it, a URL, or a folder for the one at `url`.

        Raises:
            LoadError: there is one already, or it cannot be written.
        """
        first = {
            "kind": "open",
            "time": now(),
            "ledger": secrets.token_hex(16),
            "orders": [repr(float(order)) for order in ORDERS],
            "policy": stored(dump(policy)),
        }
        row, line = next_row([], first)
        with Site.making(place, url) as site:
            store = Store(site.place)
            store.create(line)
            store.close()
            if site.folder is not None:
                marks.write(site.folder, marks.Mark.of([row]))
        return cls.open(place)

    @classmethod
    def join(cls, folder: Path, url: str) -> Self:
        """Make a folder (with a mark of its own) for a ledger that is in a database already.

        Raises:
            LoadError: there is no ledger, or the folder is in use.
            ArtefactError: the ledger is damaged.
        """
        found = cls.open(url).rows()
        with Site.making(folder, url) as site:
            if site.folder is not None:
                marks.write(site.folder, marks.Mark.of(found))
        return cls.open(folder)

    # -- reading ---------------------------------------------------------------------------------

    def rows(self) -> list[Row]:
        """All rows, checked against their chain and the mark.

        Raises:
            LoadError: the database cannot be reached.
            ArtefactError: a row was changed, removed, moved, or an older copy was restored.
        """
        # the mark first: it must never be newer than what it is compared with
        mark = marks.read(self.site.folder) if self.site.folder is not None else None
        with self._store.reading() as connection:
            table = self._store.rows(connection)
        return self._checked(table, mark)

    def check(self) -> None:
        """Check the chain and the mark; see `rows`."""
        self.rows()

    def audit(self) -> Audited:
        """Check the chain and the mark, recompute every charge and decide every grant again.

        Raises:
            LoadError: the database cannot be reached.
            ArtefactError: something does not hold; says which row.
        """
        return audit(self.rows(), self._store.where)

    def _checked(self, table: Sequence[Stored], mark: marks.Mark | None) -> list[Row]:
        rows = verify(table, self._store.where, self._known)
        self._known = list(zip(table, rows, strict=True))
        if mark is not None:
            marks.compare(mark, rows, self._store.where)
        return rows

    def identity(self) -> str:
        """The name that a ledger gave itself, which grants are made out to."""
        return ledger_of(self.rows())

    def policy(self) -> Policy:
        """The policy in force."""
        return policy_of(self.rows())[0]

    def balance(self) -> list[Balance]:
        """How every account stands, and every budget that nobody has used.

        Data that the policy knows no more have a budget of 0.
        """
        rows = self.rows()
        policy, _ = policy_of(rows)
        grid = orders_of(rows)
        spends = accounts((cost for row in rows for cost in costs_in(row)), policy)
        found, used = [], set()
        for (data, unit), costs in sorted(spends.items()):
            budget = policy.budget(*costs[-1].about)
            if budget is not None:
                used.add(budget)
                found.append(_balance(data, unit, budget, costs, grid))
            else:
                found.append(_without_budget(data, unit, costs, grid))
        for budget in policy.budgets:
            if budget not in used:
                found.append(_balance(budget.data, budget.unit, budget, [], grid))
        return found

    # -- writing ---------------------------------------------------------------------------------

    def set_policy(self, policy: Policy) -> None:
        """Put another policy in force; what was spent stays spent.

        Raises:
            LoadError: the ledger cannot be written.
            ArtefactError: it is damaged.
        """
        with self._store.writing() as connection:
            rows = self._held(self._store.rows(connection))
            if policy_of(rows)[0] != policy:
                body = {"kind": "policy", "time": now(), "policy": stored(dump(policy))}
                row, line = next_row(rows, body)
                self._store.append(connection, line)
                rows.append(row)
        self._lift(rows)

    def reserve(self, run: str, request: Request) -> Receipt:
        """Charge a run with all that it will cost; call it before the first row is read.

        Asking again for the same run gives the same receipt and charges nothing. So a run must
        be named for its randomness: whoever draws new noise under an old name is not covered.

        Args:
            run: its name, unique for this ledger.
            request: what it asks for.

        Returns:
            The receipt, once the charge is on the disk and the mark has seen it.

        Raises:
            BudgetError: it is refused; nothing was written.
            LoadError: the ledger cannot be reached or written; ask again for the same run.
            ArtefactError: the ledger is damaged.
        """
        where = f"{self.where}: run {run!r}"
        if not run or len(run) > 200 or not run.isprintable():
            raise BudgetError("a run needs a name of 1 to 200 characters", where=self.where)
        refuse_strange(request, where)
        before = self.rows()
        priced = self._price(before, request, where) if _find(before, run) is None else None
        over: Overdrawn | None = None
        with self._store.writing() as connection:
            rows = self._held(self._store.rows(connection))
            row = _find(rows, run)
            if row is None:
                if priced is None or priced[1] != policy_of(rows)[1]:
                    priced = self._price(rows, request, where)
                costs, _ = priced
                over = overdrawn(rows, costs)
                if over is None:
                    body = self._spend(rows, run, request, costs, where)
                    row, line = next_row(rows, body)
                    self._store.append(connection, line)
                    rows.append(row)
            elif row.body["digest"] != request.digest:
                raise BudgetError(
                    f"this run was charged for another request (row {row.seq})",
                    where=where,
                    mend="give the new run a name of its own",
                )
        if over is not None:
            events = [event for event in request.events if event.about == over.cost.about]
            what, mend = refusal(over.costs, over.cost, events, over.budget, over.orders)
            raise BudgetError(what, where=where, mend=mend)
        self._lift(rows)
        return _receipt(rows, _found(rows, run))

    def _held(self, table: Sequence[Stored]) -> list[Row]:
        """Rows while nobody else can write."""
        folder = self.site.folder
        return self._checked(table, marks.read(folder) if folder is not None else None)

    def _lift(self, rows: Sequence[Row]) -> None:
        if self.site.folder is not None:
            marks.lift(self.site.folder, rows)

    def _price(
        self, rows: Sequence[Row], request: Request, where: str
    ) -> tuple[tuple[Cost, ...], int]:
        """What a request costs, and the number of the policy that it was priced by."""
        policy, number = policy_of(rows)
        refuse_by_policy(policy, request, where)
        costs = costs_of(request, policy, orders_of(rows), where)
        refuse_expensive(policy, costs, where)
        return costs, number

    def _spend(
        self, rows: Sequence[Row], run: str, request: Request, costs: Sequence[Cost], where: str
    ) -> dict[str, Any]:
        policy, number = policy_of(rows)
        ledger = ledger_of(rows)
        used = [str(row.body["grant"]) for row in rows if row.body.get("grant")]
        grant = refuse_without_grant(policy, request, costs, ledger, used, where)
        return {
            "kind": "spend",
            "time": now(),
            "run": run,
            "request": request.plain(),
            "digest": request.digest,
            "costs": [cost.plain() for cost in costs],
            "policy": number,
            "grant": grant,
            "permission": request.grant if grant is not None else None,
        }


def _balance(
    data: str, unit: str, budget: Budget, costs: Sequence[Cost], orders: Sequence[float]
) -> Balance:
    now_ = standing(costs, budget, orders)
    promised, used = spent(now_, budget), share(now_, budget)
    return Balance(
        data=data,
        unit=unit,
        epsilon=budget.epsilon,
        delta=budget.delta,
        spent=None if promised is None else promised / NANO,
        left=left(now_, budget) / NANO,
        share=used if math.isfinite(used) else None,
        runs=now_.runs,
    )


def _without_budget(
    data: str, unit: str, costs: Sequence[Cost], orders: Sequence[float]
) -> Balance:
    """What was spent of data that the policy knows no more."""
    delta = max(cost.delta for cost in costs)
    found = _balance(data, unit, Budget(epsilon=1.0, delta=delta), costs, orders)
    return found.model_copy(update={"epsilon": 0.0, "left": 0.0, "share": None})


def _find(rows: Sequence[Row], run: str) -> Row | None:
    return next((row for row in rows if row.run == run), None)


def _found(rows: Sequence[Row], run: str) -> Row:
    return next(row for row in rows if row.run == run)


def _receipt(rows: Sequence[Row], row: Row) -> Receipt:
    charged = tuple(
        Charge(
            data=cost.data,
            unit=cost.unit,
            epsilon=None if cost.epsilon is None else cost.epsilon / NANO,
            delta=cost.delta,
        )
        for cost in costs_in(row)
    )
    return Receipt(
        ledger=ledger_of(rows),
        run=str(row.run),
        row=row.seq,
        digest=row.digest,
        request=str(row.body["digest"]),
        charged=charged,
    )
