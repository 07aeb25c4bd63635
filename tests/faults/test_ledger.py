"""A ledger under kills, races and full disks: no acknowledged spend lost, none counted twice."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from assay.errors import BudgetError, LoadError
from assay.privacy.ledger import Budget, Ledger, Policy
from tests.faults.spending import ASKED, policy

PROGRAM = Path(__file__).with_name("spending.py")


def program(*arguments: object) -> list[str]:
    """The acknowledged runs of `spending.py`."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def whole(place: Path, acknowledged: list[str]) -> list[str]:
    """Check a ledger against what was acknowledged; gives the charged runs."""
    ledger = Ledger.open(place)
    charged = [str(row.run) for row in ledger.rows() if row.kind == "spend"]
    assert set(acknowledged) <= set(charged)
    assert len(set(charged)) == len(charged)
    assert ledger.audit().runs == len(charged)
    assert ledger.balance()[0].spent == len(charged)
    return charged


def large(place: Path) -> Ledger:
    return Ledger.create(place, policy=Policy(budgets=(Budget(epsilon=1e6, delta=1e-5),)))


def killed(place: Path, kills: int, seed: int) -> None:
    large(place)
    acknowledged = program("kill", place, kills, seed)
    charged = whole(place, acknowledged)
    assert len(set(acknowledged)) > kills / 2
    # what was charged and not acknowledged is at most the one run that each kill cut off
    assert len(charged) - len(set(acknowledged)) <= kills
    Ledger.open(place).reserve("after", ASKED)


def test_kills_lose_nothing(tmp_path: Path) -> None:
    killed(tmp_path / "site", 20, 1)


@pytest.mark.long
def test_five_hundred_kills_lose_nothing(tmp_path: Path) -> None:
    killed(tmp_path / "site", 500, 2)


def test_a_site_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    for place in program("make", tmp_path, 20, 3):
        assert Ledger.open(place).audit().rows == 1
        Ledger.open(place).reserve("a", ASKED)
    for left in tmp_path.iterdir():
        if left.name.startswith("."):
            assert left.name.endswith(".new")


@pytest.mark.parametrize("processes", [4, pytest.param(16, marks=pytest.mark.long)])
def test_a_race_for_a_hundred_units_gives_a_hundred(tmp_path: Path, processes: int) -> None:
    place = tmp_path / "site"
    Ledger.create(place, policy=policy())
    acknowledged = program("race", place, processes)
    assert len(acknowledged) == len(set(acknowledged)) == 100
    assert sorted(whole(place, acknowledged)) == sorted(acknowledged)
    with pytest.raises(BudgetError):
        Ledger.open(place).reserve("more", ASKED)


# -- full disks ----------------------------------------------------------------------------------


def fill(ledger: Ledger) -> tuple[list[str], LoadError]:
    """Reserve until the disk refuses: the acknowledged runs, and the error."""
    acknowledged: list[str] = []
    while True:
        run = f"run-{len(acknowledged)}"
        try:
            ledger.reserve(run, ASKED)
        except LoadError as error:
            return acknowledged, error
        acknowledged.append(run)


def refused(error: LoadError) -> None:
    assert error.exit_code == 4
    line = error.line()
    assert "\n" not in line
    assert "free some space" in line or "run again" in line


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """A quota; the run that did not fit is charged once when it is asked for again."""
    ledger = large(tmp_path / "site")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    acknowledged: list[str] = []
    for limit in (0, 1000, 30_000, 60_000):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            some, error = fill(ledger)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        refused(error)
        acknowledged += some[len(acknowledged) :]
        whole(tmp_path / "site", acknowledged)
    assert acknowledged
    run = f"run-{len(acknowledged)}"
    row = ledger.reserve(run, ASKED).row
    assert ledger.reserve(run, ASKED).row == row
    charged = whole(tmp_path / "site", [*acknowledged, run])
    assert charged == [*acknowledged, run]


def mounted(place: Path, kib: int) -> None:
    options = f"remount,size={kib}k" if place.is_mount() else f"size={kib}k"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip("this user cannot mount a file system")


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        mounted(disk, 16)
        with pytest.raises(LoadError) as tight:
            large(disk / "site")
        refused(tight.value)
        assert list(disk.iterdir()) == []
        mounted(disk, 200)
        ledger = large(disk / "site")
        acknowledged, error = fill(ledger)
        refused(error)
        assert len(acknowledged) > 3
        mounted(disk, 1000)
        assert whole(disk / "site", acknowledged)[: len(acknowledged)] == acknowledged
        run = f"run-{len(acknowledged)}"
        ledger.reserve(run, ASKED)
        assert whole(disk / "site", acknowledged) == [*acknowledged, run]
    finally:
        if disk.is_mount():
            subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The charge stands, it is not acknowledged, and asking again does not charge twice."""
    ledger = large(tmp_path / "site")

    def denied(*given: Any, **named: Any) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("assay.privacy.ledger.mark.os.open", denied)
        with pytest.raises(LoadError) as found:
            ledger.reserve("a", ASKED)
    assert "charged once" in found.value.line()
    assert ledger.reserve("a", ASKED).row == 1
    assert whole(tmp_path / "site", ["a"]) == ["a"]
