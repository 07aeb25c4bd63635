"""A disk that is full at any moment: one line, nothing half-written, and the run can go on."""

from __future__ import annotations

import errno
import os
import re
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import SMALL, Said, outcome, tree

HALF_WRITTEN = re.compile(r"(^|/)\.[^/]+\.(tmp|new|old)(/|$)")


@pytest.fixture(autouse=True)
def short_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pictures take longer than all else here."""
    monkeypatch.setattr("assay.report.page.render", lambda run: "a report")


def check(said: Said, folder: Path, reason: str) -> None:
    """The run has failed as it should."""
    assert said.code == 4, said.err
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert reason in errors[0]
    assert "Traceback" not in said.err
    left = tree(folder) if folder.exists() else {}
    assert not [name for name in left if HALF_WRITTEN.search(name)]
    # either it never began and there is no folder, or it can go on
    assert ("state.json" in left) == folder.exists()


def test_a_disk_that_is_full_at_every_moment(
    small: Path, checkpoints_always: None, assay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("small.yaml").write_text(SMALL.replace("epochs: 2", "epochs: 1"))
    real, calls, full_at = os.fsync, 0, 0

    def fsync(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    assert assay("run", "small.yaml", "--out", "whole", "--threads", 1).code == 0
    wanted, moments = outcome(Path("whole")), calls
    failed = begun = 0
    for full_at in range(1, moments + 1):
        calls, run = 0, Path(f"full-{full_at}")
        said = assay("run", "small.yaml", "--out", run, "--threads", 1)
        if said.code != 0:  # syncing a folder is a favour: it may fail
            failed += 1
            check(said, run, "No space left on device")
            assert said.err.splitlines()[-1].startswith(f"error: {run}/")
            if not run.exists():
                continue
            begun += 1
            calls = moments + 1
            assert assay("run", "--resume", run).code == 0
        assert outcome(run) == wanted, full_at
    assert failed > 25
    assert begun > 20


@pytest.fixture
def disk(small: Path) -> Iterator[Callable[[int], Path]]:
    """A small disk that grows: KiB -> where it is."""
    place = small / "disk"
    place.mkdir()

    def sized(kib: int) -> Path:
        again = ["-o", f"remount,size={kib}k"] if place.is_mount() else ["-o", f"size={kib}k"]
        done = subprocess.run(
            ["mount", "-t", "tmpfs", *again, "tmpfs", str(place)], capture_output=True, check=False
        )
        if done.returncode != 0:
            pytest.skip("this user cannot mount a file system")
        return place

    yield sized
    if place.is_mount():
        subprocess.run(["umount", str(place)], check=True)


def test_a_small_disk_that_grows(
    small: Path, checkpoints_always: None, assay: Any, disk: Callable[[int], Path]
) -> None:
    Path("small.yaml").write_text(SMALL.replace("[4]", "[200]"))
    assert assay("run", "small.yaml", "--threads", 1).code == 0
    failures, began = 0, False
    for kib in (4, 8, 16, 20, 24, 28, 32, 40, 48, 64, 96, 1024):
        run = disk(kib) / "run"
        began = began or run.exists()
        arguments = ["--resume", run] if began else ["small.yaml", "--out", run, "--threads", 1]
        said = assay("run", *arguments)
        if said.code == 0:
            break
        failures += 1
        check(said, run, "No space left on device")
    assert failures >= 6
    assert outcome(run) == outcome(Path("runs/small/1"))


def test_predictions_that_do_not_fit(small: Path, assay: Any, disk: Callable[[int], Path]) -> None:
    assert assay("run", "small.yaml", "--threads", 1).code == 0
    place = disk(8)
    (place / "filling").write_bytes(b"x" * 8192)
    there = tree(place)
    for name in ("out.csv", "out.jsonl", "out.parquet"):
        said = assay("predict", "runs/small/1", "rows.csv", "--out", place / name)
        assert said.code == 4
        assert said.err.startswith(f"error: {place / name}: cannot write: No space left on device")
        assert said.err.count("\n") == 1
        assert tree(place) == there


def test_files_that_may_not_grow(small: Path, checkpoints_always: None, assay: Any) -> None:
    """A quota, or a file system that takes small files only."""
    Path("small.yaml").write_text(SMALL.replace("[4]", "[2000]"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    run = Path("runs/small/1")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
        said = assay("run", "small.yaml", "--threads", 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    check(said, run, "File too large")
    assert assay("run", "--resume", run).code == 0
    assert assay("run", "small.yaml", "--threads", 1).code == 0
    assert outcome(run) == outcome(Path("runs/small/2"))
