"""Rows that hold the hash of the one before: what was written once cannot be changed unseen.

A row's line is canonical JSON with its number, the SHA-256 of the line before it (64 zeros for the
first) and its content; the time in it is for readers, nothing depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from assay.errors import ArtefactError
from assay.files import canonical_json, parse_json, sha256

START = "0" * 64
MEND = "do not grant anything; restore the newest backup together with its mark, and ask who did it"


def now() -> str:
    """The clock, for readers."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Row:
    """One row of a ledger.

    Attributes:
        seq: its number, from 0.
        digest: SHA-256 of its line.
        body: its content: `kind` (`open`, `policy` or `spend`), `time`, and what the kind holds.
    """

    seq: int
    digest: str
    body: dict[str, Any]

    @property
    def kind(self) -> str:
        """What it says: `open`, `policy` or `spend`."""
        return str(self.body["kind"])

    @property
    def run(self) -> str | None:
        """The run that it charges."""
        return self.body.get("run")


@dataclass(frozen=True)
class Stored:
    """A row as the database holds it, not yet believed."""

    seq: int
    run: str | None
    digest: str
    line: str


def next_row(rows: list[Row], body: dict[str, Any]) -> tuple[Row, Stored]:
    """The row that holds `body` after `rows`, and what to store."""
    seq, previous = len(rows), rows[-1].digest if rows else START
    whole = {**body, "seq": seq, "previous": previous}
    line = canonical_json(whole)
    row = Row(seq, sha256(line), whole)
    return row, Stored(seq, row.run, row.digest, line.decode())


def _problem(seq: int, previous: str, stored: Stored, body: Any) -> str | None:
    if stored.seq != seq:
        return f"expected row {seq}, found {stored.seq}: a row is missing or out of place"
    line = stored.line.encode()
    if sha256(line) != stored.digest:
        return "its content is not what its hash says: it was changed"
    if not isinstance(body, dict) or canonical_json(body) != line:
        return "it is not in canonical form"
    if body.get("seq") != seq or body.get("previous") != previous:
        return "it does not follow the row before it: rows were changed, removed or reordered"
    if body.get("run") != stored.run:
        return "it names another run than its content"
    if (body.get("kind") == "open") != (seq == 0):
        return "a ledger is opened once, by its first row"
    if body.get("kind") not in ("open", "policy", "spend"):
        return "its kind is not known"
    return None


def verify(table: Iterable[Stored], where: str) -> list[Row]:
    """Check that rows, in the order of their numbers, are a whole chain.

    Raises:
        ArtefactError: a row was changed, removed, added or moved; says which.
    """
    rows: list[Row] = []
    previous = START
    for seq, stored in enumerate(table):
        here = f"{where}: row {stored.seq}"
        try:
            body = parse_json(stored.line, here)
        except ArtefactError:
            body = None
        problem = _problem(seq, previous, stored, body)
        if problem is not None:
            raise ArtefactError(problem, where=here, mend=MEND)
        rows.append(Row(seq, stored.digest, body))
        previous = stored.digest
    if not rows:
        raise ArtefactError("the ledger has no rows: it was emptied", where=where, mend=MEND)
    return rows
