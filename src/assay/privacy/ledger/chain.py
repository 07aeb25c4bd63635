"""Rows that hold the hash of the one before: what was written once cannot be changed unseen.

A row's line is canonical JSON with its number, the SHA-256 of the line before it (64 zeros for the
first) and its content; the time in it is for readers, nothing depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    if sha256(stored.line.encode()) != stored.digest:
        return "its content is not what its hash says: it was changed"
    if not isinstance(body, dict):
        return "it is not a row"
    if body.get("seq") != seq or body.get("previous") != previous:
        return "it does not follow the row before it: rows were changed, removed or reordered"
    if body.get("run") != stored.run:
        return "it names another run than its content"
    if (body.get("kind") == "open") != (seq == 0):
        return "a ledger is opened once, by its first row"
    if body.get("kind") not in ("open", "policy", "spend"):
        return "its kind is not known"
    return None


def verify(
    table: Sequence[Stored], where: str, known: Sequence[tuple[Stored, Row]] = ()
) -> list[Row]:
    """Check that rows, in the order of their numbers, are a whole chain.

    Args:
        table: all rows.
        where: for messages.
        known: the beginning of a chain that was checked before; rows that are still the same,
            letter by letter, are not hashed again.

    Raises:
        ArtefactError: a row was changed, removed, added or moved; says which.
    """
    rows: list[Row] = []
    for stored, (before, row) in zip(table, known, strict=False):
        if stored != before:
            break
        rows.append(row)
    previous = rows[-1].digest if rows else START
    for seq, stored in enumerate(table[len(rows) :], len(rows)):
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
