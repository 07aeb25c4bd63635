"""The high-water mark: how far a ledger had come, kept outside its database.

An older copy of the database is a valid chain; that it is old shows only against the mark. The
mark is raised after each commit and before anything is acknowledged. So a crash between them
leaves a mark that lags behind a chain which goes on from it, and never one that leads.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.errors import ArtefactError, LoadError
from assay.files import canonical_json, read_json, write_bytes
from assay.privacy.ledger.chain import MEND, Row

NAME = "mark.json"
_LOCK = ".mark.lock"


@dataclass(frozen=True)
class Mark:
    """How far a ledger had come.

    Attributes:
        ledger: the ledger's identity.
        count: number of its rows.
        last: digest of the last of them.
    """

    ledger: str
    count: int
    last: str

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Mark:
        """The mark of a whole chain."""
        return cls(str(rows[0].body["ledger"]), len(rows), rows[-1].digest)


def read(folder: Path) -> Mark:
    """Read a mark.

    Raises:
        ArtefactError: it is missing or damaged.
    """
    path = folder / NAME
    value = read_json(path)
    if (
        not isinstance(value, dict)
        or set(value) != {"ledger", "count", "last"}
        or type(value["count"]) is not int
        or value["count"] < 1
    ):
        raise ArtefactError("not the mark of a ledger", where=str(path), mend=MEND)
    return Mark(str(value["ledger"]), value["count"], str(value["last"]))


def compare(mark: Mark, rows: Sequence[Row], where: str) -> None:
    """Check that a chain goes on from a mark that was read before it.

    Raises:
        ArtefactError: it is another ledger, an older one, or its history was rewritten.
    """
    if rows[0].body.get("ledger") != mark.ledger:
        raise ArtefactError("the mark belongs to another ledger", where=where, mend=MEND)
    if len(rows) < mark.count:
        raise ArtefactError(
            f"{len(rows)} rows, but the mark has seen {mark.count}: an older copy was restored, "
            "or rows were cut off",
            where=where,
            mend=MEND,
        )
    if rows[mark.count - 1].digest != mark.last:
        raise ArtefactError(
            f"row {mark.count - 1} is not the one that the mark has seen: history was rewritten",
            where=where,
            mend=MEND,
        )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LoadError(
            f"cannot write: {error.strerror or error}",
            where=str(folder),
            mend="make the site's folder writable, then run again: it is charged once",
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write(folder: Path, mark: Mark) -> None:
    """Write a mark, durably."""
    value = {"ledger": mark.ledger, "count": mark.count, "last": mark.last}
    write_bytes(folder / NAME, canonical_json(value) + b"\n", 0o600)


def lift(folder: Path, rows: Sequence[Row]) -> None:
    """Raise a mark to at least the end of a checked chain; it never sinks.

    Raises:
        LoadError: it cannot be written.
    """
    with _locked(folder):
        if read(folder).count < len(rows):
            write(folder, Mark.of(rows))
