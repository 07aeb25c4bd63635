"""What `kill -9` leaves at every instant of a run, and what a resumed run makes of it.

Run as a program, in a folder that holds a recipe and its data:

    instants.py record RECIPE RUN COPIES
        runs the recipe in RUN and copies the folder to COPIES/<k> each time that the process is
        about to change it: opening for writing, renaming, removing, linking, making a folder,
        syncing. What a process has written is in the kernel's hands, so each copy is what a
        `kill -9` at that instant would leave. Equal copies are kept once.

    instants.py resume RECIPE COPIES [GRAPH]
        runs the recipe once, then resumes every copy in a fork of this process and writes exit
        code and output to COPIES/<k>.json. Give it another PYTHONHASHSEED. Where GRAPH is given,
        the exporter's work is taken from that file instead of being done again each time, and the
        report is one line.

    instants.py run K ARGUMENTS...
        `assay run` with a checkpoint after every step, and SIGKILL at the K-th instant (0: never).
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: audit events by which a process changes files, and which of their arguments are paths
_EVENTS = {
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.mkdir": (0,),
    "os.link": (1,),
    "os.truncate": (0,),
    "shutil.rmtree": (0,),
}
_TEMPORARY = re.compile(r"\.[0-9a-f]{8}\.tmp$")


def content(folder: Path) -> dict[str, str]:
    """Path -> digest of every file, and empty text for a folder; temporary names are as one."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = _TEMPORARY.sub(".tmp", path.relative_to(folder).as_posix())
        if path.name != ".lock":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return found


class Watcher:
    """Acts whenever this process is about to change something in a folder.

    Args:
        folder: the folder that is watched.
        act: what is done; is told the file that is about to be emptied, if one is.
    """

    def __init__(self, folder: Path, act: Callable[[Path | None], None]) -> None:
        self.folder, self._act = folder.resolve(), act
        self._busy = False
        self._sync = os.fsync
        os.fsync = self.fsync
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook."""
        if self._busy or not (event == "open" or event in _EVENTS):
            return
        touched, emptied = [arguments[i] for i in _EVENTS.get(event, ())], None
        if event == "open" and _writes(*arguments[1:]):
            touched = [arguments[0]]
            if _empties(*arguments[1:]) and not isinstance(arguments[0], int):
                emptied = Path.cwd() / os.fsdecode(arguments[0])
        self._busy = True
        try:
            if self.folder.is_dir() and any(self._inside(path) for path in touched):
                self._act(emptied)
        finally:
            self._busy = False

    def _inside(self, path: Any) -> bool:
        """What is named by a number, or relative to some open folder, may be anywhere."""
        if not isinstance(path, (str, bytes, os.PathLike)):
            return isinstance(path, int)
        text = os.fsdecode(path)
        return "/" not in text or (Path.cwd() / text).is_relative_to(self.folder)

    def fsync(self, fd: Any) -> None:
        """Stands for `os.fsync`, which tells no audit hook."""
        self._busy = True
        try:
            self._act(None)
        finally:
            self._busy = False
        self._sync(fd)


class Copies:
    """Copies of a folder as it was at each instant; equal ones are kept once."""

    def __init__(self, folder: Path, copies: Path) -> None:
        self.folder, self.copies = folder.resolve(), copies.resolve()
        self._seen: set[str] = set()

    def take(self, emptied: Path | None = None) -> None:
        """Copy the folder, if it was never like this before, and what it is when a file that is
        there has just been emptied.
        """
        now = json.dumps(content(self.folder)) if self.folder.is_dir() else None
        if now is not None and now not in self._seen:
            shutil.copytree(self.folder, self.copies / f"{len(self._seen):04d}")
            self._seen.add(now)
        if emptied is not None and emptied.exists() and emptied.stat().st_size:
            copy = self.copies / f"{len(self._seen):04d}"
            shutil.copytree(self.folder, copy)
            (copy / emptied.relative_to(self.folder)).write_bytes(b"")
            self._seen.add(f"{now} without {emptied}")


def _writes(mode: str | None, flags: int) -> bool:
    if mode is not None:
        return bool(set(mode) & set("wax+"))
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _empties(mode: str | None, flags: int) -> bool:
    return "w" in mode if mode is not None else bool(flags & os.O_TRUNC)


def assay(*arguments: object) -> int:
    """One command of assay, in this process."""
    from assay.cli import invoke

    return invoke([str(argument) for argument in arguments])


def checkpoint_always() -> None:
    """A checkpoint after every step, and lines in the log that speak of several steps."""
    from assay.training import loop

    loop.CHECKPOINT_SECONDS = 0.0
    loop._LOGGED_LINES = 2


def record(recipe: str, run: Path, copies: Path) -> int:
    """See the module."""
    checkpoint_always()
    found = Copies(run, copies)
    Watcher(run, found.take)
    code = assay("run", recipe, "--out", run, "--threads", 1)
    found.take()
    return code


def die(at: int, arguments: tuple[str, ...]) -> int:
    """See the module."""
    checkpoint_always()
    left = at

    def count(_: Path | None) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if at:
        name = "--out" if "--out" in arguments else "--resume"
        Watcher(Path(arguments[arguments.index(name) + 1]), count)
    return assay("run", *arguments)


def resume(recipe: str, copies: Path, graph: Path | None) -> int:
    """See the module."""
    checkpoint_always()
    if graph is not None:
        _take_for_granted(graph)
    with _silent(io.StringIO()):
        code = assay("run", recipe, "--out", f"{copies}.warm", "--threads", 1)
    shutil.rmtree(f"{copies}.warm", ignore_errors=True)
    gc.collect()
    gc.freeze()
    for folder in sorted(copies.iterdir()):
        child = os.fork()
        if child == 0:
            _in_child(folder)
        os.waitpid(child, 0)
    return code


def _take_for_granted(graph: Path) -> None:
    from assay.deploy import onnx_export
    from assay.files import write_bytes
    from assay.report import page

    data = graph.read_bytes()
    onnx_export.export_onnx = lambda *given: write_bytes(given[3], data)
    page.render = lambda run: "a report"


@contextlib.contextmanager
def _silent(into: io.StringIO) -> Any:
    with contextlib.redirect_stdout(into), contextlib.redirect_stderr(into):
        yield


def _in_child(folder: Path) -> None:
    said, code = io.StringIO(), -1
    try:
        with _silent(said):
            code = assay("run", "--resume", folder)
    finally:
        found = {"code": code, "said": said.getvalue()}
        folder.with_suffix(".json").write_text(json.dumps(found))
        os._exit(0)


def main(command: str, *arguments: str) -> int:
    """See the module."""
    if command == "record":
        return record(arguments[0], Path(arguments[1]), Path(arguments[2]))
    if command == "resume":
        graph = Path(arguments[2]) if len(arguments) > 2 else None
        return resume(arguments[0], Path(arguments[1]), graph)
    return die(int(arguments[0]), arguments[1:])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
