"""Two runs into one folder, folders that cannot be written, and what a refused run leaves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from assay.errors import LoadError, UsageError
from assay.recipe.state import RunFolder, new_folder, next_folder, open_folder
from tests.faults.conftest import outcome, tree

HOLD = """\
import sys
from pathlib import Path
from assay.recipe.state import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Another process is writing to the folder; in the end it is killed."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            yield
        finally:
            other.kill()


def test_two_runs_never_write_to_one_folder(stopped: Path, assay: Any) -> None:
    with held(stopped):
        there = tree(stopped)
        said = assay("run", "--resume", stopped)
        assert said.code == 2
        assert said.err == (
            f"error: {stopped}: another run is writing to this folder; wait for it, or choose "
            "another folder with --out\n"
        )
        assert tree(stopped) == there
        assert assay("run", "small.yaml", "--threads", 1).code == 0
    assert assay("run", "--resume", stopped).code == 0  # the lock went with its process
    assert outcome(stopped) == outcome(Path("runs/small/2"))


def test_a_refused_run_does_not_touch_anothers_folder(small: Path, assay: Any) -> None:
    with held(Path("mine")):
        said = assay("run", "small.yaml", "--out", "mine")
        assert said.code == 2
        assert "mine: another run is writing to this folder" in said.err
        assert sorted(p.name for p in Path("mine").iterdir()) == [".lock"]


def test_a_folder_that_holds_something_is_refused(stopped: Path, assay: Any) -> None:
    there = tree(stopped)
    said = assay("run", "small.yaml", "--out", stopped)
    assert said.code == 2
    assert said.err == (
        f"error: {stopped}: this folder holds a run already; go on with it: --resume {stopped}, "
        "or choose another folder\n"
    )
    assert tree(stopped) == there
    said = assay("run", "small.yaml", "--out", ".")
    assert said.code == 2
    assert said.err.startswith("error: .: this folder is not empty; choose another folder")


def test_every_run_gets_a_number_of_its_own(workspace: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: next_folder(Path("runs"), "r"), range(40)))
    assert sorted(int(folder.name) for folder in made) == list(range(1, 41))


def test_numbers_are_not_used_again(workspace: Path) -> None:
    for name in ("3", "old", "2.bak"):
        (workspace / "runs/r" / name).mkdir(parents=True)
    assert next_folder(Path("runs"), "r") == Path("runs/r/4")


@pytest.mark.parametrize(
    ("out", "line"),
    [
        ("rows.csv", "rows.csv: this is a file; name a folder"),
        ("rows.csv/new", "rows.csv/new: cannot write here: Not a directory; choose another"),
        ("/proc/assay/new", "/proc/assay/new: cannot write here: "),
        ("/dev/null", "/dev/null: this is a file; name a folder"),
        ("x" * 300, f"{'x' * 300}: cannot read this folder: File name too long; choose another"),
    ],
)
def test_a_folder_that_cannot_be_made(small: Path, assay: Any, out: str, line: str) -> None:
    there = tree(small)
    said = assay("run", "small.yaml", "--out", out)
    assert said.code == (2 if "this is a file" in line else 4)
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith(f"error: {line}")
    assert tree(small) == there


@pytest.mark.parametrize("file", ["runs", "runs/small"])
def test_a_file_where_runs_should_be(small: Path, assay: Any, file: str) -> None:
    Path(file).parent.mkdir(exist_ok=True)
    Path(file).write_text("a file")
    there = tree(small)
    said = assay("run", "small.yaml")
    assert (said.code, said.out, said.err.count("\n")) == (4, "", 1)
    assert said.err.startswith("error: runs/small: cannot make a folder for the run: ")
    assert said.err.endswith("; choose another folder with --out\n")
    assert tree(small) == there


@pytest.mark.parametrize("name", ["evidence", "checkpoints", "metrics.jsonl"])
def test_a_file_in_the_way_of_a_stopped_run(stopped: Path, assay: Any, name: str) -> None:
    """Something of another kind stands where the run wants to write."""
    if name == "checkpoints":
        (stopped / name).rename("kept")
    if name == "metrics.jsonl":
        (stopped / name).unlink()
        (stopped / name).mkdir()
    else:
        (stopped / name).write_text("a file")
    said = assay("run", "--resume", stopped)
    assert said.code == 4, said.err
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {stopped}/{name}")
    assert errors[0].endswith("; remove what stands in the way")


def test_timings_that_cannot_be_remembered_stop_nobody(
    small: Path, assay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(small / "rows.csv"))
    Path("small.yaml").write_text(Path("small.yaml").read_text().replace(", precision: fp32", ""))
    assert assay("run", "small.yaml", "--threads", 1).code == 0


# -- what is left of a run that never began -------------------------------------------------------


def test_nothing_is_left_but_what_was_there(small: Path, assay: Any) -> None:
    Path("bad.yaml").write_text(Path("small.yaml").read_text().replace("rows.csv", "gone.csv"))
    Path("mine").mkdir()
    there = tree(small)
    for arguments in ([], ["--out", "mine"], ["--out", "a/b/c"], ["--out", "mine/new"]):
        assert assay("run", "bad.yaml", *arguments).code == 4
        assert tree(small) == there
    assert assay("run", "small.yaml").code == 0
    there = tree(small)
    assert assay("run", "bad.yaml").code == 4
    assert assay("run", "bad.yaml", "--set", "name=small").code == 4
    assert tree(small) == there


def test_an_interrupt_before_it_began_leaves_nothing(
    small: Path, assay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("assay.data.config.DataConfig.load", interrupted)
    there = tree(small)
    said = assay("run", "small.yaml")
    assert (said.code, said.out, said.err) == (130, "", "\nstopped\n")
    assert tree(small) == there


def test_the_same_from_python(small: Path) -> None:
    from assay.recipe.schema import Recipe

    Path("bad.yaml").write_text(Path("small.yaml").read_text().replace("rows.csv", "gone.csv"))
    there = tree(small)
    with pytest.raises(LoadError, match="no such file"):
        Recipe.load("bad.yaml").run(threads=1)
    with pytest.raises(LoadError, match="no such file"):
        Recipe.load("bad.yaml").run(threads=1, out="new/one")
    assert tree(small) == there


def test_a_run_that_began_is_kept(workspace: Path) -> None:
    folder = open_folder(Path("a/b"), "r")
    with folder.locked():
        folder.describe(b"name: r\n", {"threads": 1}, {})
        folder.write_state(folder.read_state())
        there = tree(workspace)
        folder.forget()
        assert tree(workspace) == there
        (folder.path / "state.json").unlink()
        (folder.path / "notes.txt").write_text("of the user")
        folder.forget()
    assert [n for n, data in tree(workspace).items() if data is not None] == ["a/b/notes.txt"]


def test_half_written_things_are_swept(workspace: Path) -> None:
    folder = RunFolder(Path("run"))
    for name in (".a.json.0123abcd.tmp", "evidence/.b.tmp", "checkpoints/stage-0/.c.tmp", "d.tmp"):
        path = folder.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    for name in (".peft.new/x", "checkpoints/.after-0.old/y", "checkpoints/after-0/z"):
        (folder.path / name).mkdir(parents=True)
    folder.sweep()
    left = {n for n in tree(folder.path) if n not in ("evidence", "checkpoints")}
    assert left == {"checkpoints/after-0", "checkpoints/after-0/z", "checkpoints/stage-0", "d.tmp"}


def test_a_lock_that_was_removed_is_no_lock(workspace: Path) -> None:
    """Whoever opened a lock that a failing run then removed must not go on with it."""
    from assay.recipe import state

    with Path("lock").open("w") as stream:
        Path("lock").unlink()
        assert not state._lock(stream.fileno(), Path("lock"))
        Path("lock").touch()
        assert not state._lock(stream.fileno(), Path("lock"))


def test_a_new_folder_is_empty(workspace: Path) -> None:
    Path("empty").mkdir()
    (workspace / "empty/.lock").touch()
    assert new_folder(Path("empty")) == Path("empty")
    (workspace / "empty/x").touch()
    with pytest.raises(UsageError, match="not empty"):
        new_folder(Path("empty"))
