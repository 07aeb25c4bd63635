"""Tampering with a ledger: every change shows in `check`, and before anything more is granted."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from assay.errors import ArtefactError
from assay.files import canonical_json, sha256
from assay.privacy.events import Event
from assay.privacy.ledger import Budget, Ledger, Policy, Request


def asks(epsilon: float) -> Request:
    events = (Event(mechanism="pure", epsilon=epsilon, data="ward"),)
    return Request(recipe="wards", model="mlp", stages=("finetune",), n_units=500, events=events)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A site with three runs."""
    ledger = Ledger.create(tmp_path / "site", policy=Policy(budgets=(Budget(epsilon=1.0),)))
    for run in "abc":
        ledger.reserve(run, asks(0.2))
    return tmp_path / "site"


@contextmanager
def database(place: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(place / "ledger.sqlite")) as connection:
        yield connection
        connection.commit()


def refused(place: Path, says: str) -> None:
    """Every way in finds it, grants nothing, and says where."""
    before = (place / "mark.json").read_bytes() if (place / "mark.json").exists() else None
    ways: list[Callable[[Ledger], Any]] = [
        Ledger.check,
        Ledger.rows,
        Ledger.balance,
        Ledger.audit,
        lambda ledger: ledger.reserve("new", asks(0.1)),
        lambda ledger: ledger.reserve("a", asks(0.2)),
        lambda ledger: ledger.set_policy(Policy(budgets=(Budget(epsilon=9.0),))),
    ]
    for way in ways:
        with pytest.raises(ArtefactError, match=says) as found:
            way(Ledger.open(place))
        assert found.value.exit_code == 7
        assert "\n" not in found.value.line()
    if before is not None:
        assert (place / "mark.json").read_bytes() == before


def _line(connection: sqlite3.Connection, seq: int) -> dict[str, Any]:
    (text,) = connection.execute("SELECT line FROM assay_ledger WHERE seq = ?", [seq]).fetchone()
    found: dict[str, Any] = json.loads(text)
    return found


def _rewrite(connection: sqlite3.Connection, seq: int, body: dict[str, Any]) -> str:
    line = canonical_json(body)
    connection.execute(
        "UPDATE assay_ledger SET line = ?, digest = ? WHERE seq = ?",
        [line.decode(), sha256(line), seq],
    )
    return sha256(line)


def test_a_whole_ledger_is_whole(place: Path) -> None:
    ledger = Ledger.open(place)
    ledger.check()
    assert [row.run for row in ledger.rows()] == [None, "a", "b", "c"]
    assert ledger.audit().runs == 3


def test_a_ledger_that_was_open_when_it_was_changed(place: Path) -> None:
    """What was checked before is checked again unless it is the same letter by letter."""
    ledger = Ledger.open(place)
    ledger.check()
    with database(place) as connection:
        body = _line(connection, 1)
        line = canonical_json({**body, "time": "never"}).decode()
        connection.execute("UPDATE assay_ledger SET line = ? WHERE seq = 1", [line])
    with pytest.raises(ArtefactError, match="row 1: its content is not what"):
        ledger.reserve("new", asks(0.1))
    with database(place) as connection:
        connection.execute("UPDATE assay_ledger SET digest = ? WHERE seq = 3", ["1" * 64])
        connection.execute(
            "UPDATE assay_ledger SET line = ? WHERE seq = 1", [canonical_json(body).decode()]
        )
    with pytest.raises(ArtefactError, match="row 3: its content is not what"):
        ledger.check()


@pytest.mark.parametrize("column", ["line", "digest", "run"])
def test_a_changed_row(place: Path, column: str) -> None:
    values = {"line": "{}", "digest": "0" * 64, "run": "z"}
    with database(place) as connection:
        connection.execute(f"UPDATE assay_ledger SET {column} = ? WHERE seq = 2", [values[column]])
    refused(place, "row 2: it(s content is not what| names another run)")


def test_every_byte_of_a_row_counts(place: Path) -> None:
    with database(place) as connection:
        (line,) = connection.execute("SELECT line FROM assay_ledger WHERE seq = 1").fetchone()
    for at in range(0, len(line), 97):
        changed = line[:at] + chr(ord(line[at]) ^ 1) + line[at + 1 :]
        with database(place) as connection:
            connection.execute("UPDATE assay_ledger SET line = ? WHERE seq = 1", [changed])
        with pytest.raises(ArtefactError, match="row 1"):
            Ledger.open(place).check()


def test_a_changed_row_with_its_hash_made_anew(place: Path) -> None:
    with database(place) as connection:
        body = _line(connection, 1)
        body["costs"][0]["pure"] = 1
        _rewrite(connection, 1, body)
    refused(place, "row 2: it does not follow the row before it")


def test_all_hashes_made_anew(place: Path) -> None:
    """A consistent other history: only the mark knows."""
    with database(place) as connection:
        body = _line(connection, 1)
        body["costs"][0]["pure"] = 1
        previous = _rewrite(connection, 1, body)
        for seq in (2, 3):
            previous = _rewrite(connection, seq, {**_line(connection, seq), "previous": previous})
    refused(place, "history was rewritten")


def test_the_last_row_changed(place: Path) -> None:
    with database(place) as connection:
        body = _line(connection, 3)
        body["costs"][0]["pure"] = 1
        _rewrite(connection, 3, body)
    refused(place, "history was rewritten")


@pytest.mark.parametrize(
    ("seq", "says"),
    [(0, "expected row 0, found 1"), (2, "expected row 2, found 3"), (3, "3 rows, but the mark")],
)
def test_a_deleted_row(place: Path, seq: int, says: str) -> None:
    with database(place) as connection:
        connection.execute("DELETE FROM assay_ledger WHERE seq = ?", [seq])
    refused(place, says)


def test_reordered_rows(place: Path) -> None:
    with database(place) as connection:
        for old, new in ((1, 9), (2, 1), (9, 2)):
            connection.execute("UPDATE assay_ledger SET seq = ? WHERE seq = ?", [new, old])
    refused(place, "row 1: it does not follow the row before it")


def test_a_truncated_table(place: Path) -> None:
    with database(place) as connection:
        connection.execute("DELETE FROM assay_ledger")
    refused(place, "it was emptied")


def test_a_row_added_from_outside(place: Path) -> None:
    with database(place) as connection:
        connection.execute(
            "INSERT INTO assay_ledger SELECT 4, 'd', digest, line FROM assay_ledger WHERE seq = 3"
        )
    refused(place, "row 4: it does not follow")


def test_a_restored_old_file(place: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.sqlite"
    shutil.copy(place / "ledger.sqlite", old)
    Ledger.open(place).reserve("d", asks(0.4))
    for left in place.glob("ledger.sqlite*"):
        left.unlink()
    shutil.copy(old, place / "ledger.sqlite")
    refused(place, "4 rows, but the mark has seen 5: an older copy was restored")


def test_a_restored_old_file_that_was_written_to_since(place: Path, tmp_path: Path) -> None:
    """As many rows as the mark has seen, but others."""
    shutil.copytree(place, tmp_path / "copy")
    Ledger.open(tmp_path / "copy").reserve("x", asks(0.1))
    Ledger.open(place).reserve("d", asks(0.4))
    shutil.copy(tmp_path / "copy/ledger.sqlite", place / "ledger.sqlite")
    refused(place, "history was rewritten")


def test_another_ledger_in_its_place(place: Path, tmp_path: Path) -> None:
    Ledger.create(tmp_path / "other", policy=Policy(budgets=(Budget(epsilon=1.0),)))
    shutil.copy(tmp_path / "other/ledger.sqlite", place / "ledger.sqlite")
    refused(place, "the mark belongs to another ledger")


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"count":0,"last":"","ledger":""}'])
def test_a_mark_that_is_gone_or_damaged(place: Path, content: bytes | None) -> None:
    (place / "mark.json").unlink()
    if content is not None:
        (place / "mark.json").write_bytes(content)
    refused(place, "mark.json")


def test_a_file_that_is_gone(place: Path) -> None:
    (place / "ledger.sqlite").unlink()
    refused(place, "the ledger's file is gone")
    assert not (place / "ledger.sqlite").exists()


def test_a_table_that_is_gone(place: Path) -> None:
    with database(place) as connection:
        connection.execute("DROP TABLE assay_ledger")
    refused(place, "the ledger is damaged: no such table")


def test_a_file_that_is_no_database(place: Path) -> None:
    (place / "ledger.sqlite").write_bytes(b"rubbish" * 1000)
    refused(place, "file is not a database")


def test_a_database_cut_off(place: Path) -> None:
    data = (place / "ledger.sqlite").read_bytes()
    (place / "ledger.sqlite").write_bytes(data[: len(data) // 2])
    refused(place, "the ledger is damaged")


@pytest.mark.parametrize("content", [b"", b"[]", b'{"version":2}'])
def test_a_damaged_site(place: Path, content: bytes) -> None:
    (place / "site.json").write_bytes(content)
    with pytest.raises(ArtefactError, match=r"site\.json"):
        Ledger.open(place)


# -- an owner's own tampering, with mark and all: only the audit sees it -------------------------


def _forge(place: Path, seq: int, change: Callable[[dict[str, Any]], None]) -> None:
    with database(place) as connection:
        body = _line(connection, seq)
        change(body)
        previous = _rewrite(connection, seq, body)
        for later in range(seq + 1, 4):
            fresh = {**_line(connection, later), "previous": previous}
            previous = _rewrite(connection, later, fresh)
    mark = json.loads((place / "mark.json").read_text())
    (place / "mark.json").write_text(json.dumps({**mark, "last": previous}))


def _cheaper(body: dict[str, Any]) -> None:
    body["costs"][0]["pure"] = 1000


def _smaller_divergence(body: dict[str, Any]) -> None:
    body["costs"][0]["renyi"][50] = 7


def _other_data(body: dict[str, Any]) -> None:
    body["costs"][0]["data"] = "clinic"


def _other_request(body: dict[str, Any]) -> None:
    body["request"]["events"][0]["epsilon"] = "0.001"


def _other_policy(body: dict[str, Any]) -> None:
    body["policy"] = 5


def _unreadable(body: dict[str, Any]) -> None:
    body["costs"][0]["pure"] = -5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_cheaper, "charges less"),
        (_smaller_divergence, "charges less"),
        (_other_data, "charges other data"),
        (_other_request, "not the one that its digest names"),
        (_other_policy, "by another policy"),
        (_unreadable, "cannot be understood"),
    ],
)
def test_an_audit_recomputes(
    place: Path, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    _forge(place, 2, change)
    with pytest.raises(ArtefactError, match=f"row 2: .*{says}"):
        Ledger.open(place).audit()


def test_an_audit_decides_every_grant_again(place: Path) -> None:
    def poorer(body: dict[str, Any]) -> None:
        body["policy"]["budgets"][0]["epsilon"] = "0.5"

    _forge(place, 0, poorer)
    Ledger.open(place).check()
    with pytest.raises(ArtefactError, match="row 3: the budget in force did not allow it"):
        Ledger.open(place).audit()

    def stricter(body: dict[str, Any]) -> None:
        body["policy"]["budgets"][0]["epsilon"] = "1.0"
        body["policy"]["stages"] = ["prune"]

    _forge(place, 0, stricter)
    with pytest.raises(ArtefactError, match=r"row 1: .*does not allow the stage"):
        Ledger.open(place).audit()
