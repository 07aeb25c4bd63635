"""What `kill -9` leaves at every instant of a run, and what a resumed run makes of it.

Run as a program, in a folder that holds a recipe and its data:

    instants.py record RECIPE RUN INSTANTS
        runs the recipe in RUN and copies the folder to INSTANTS/<k> each time that the process is
        about to change it: opening for writing, renaming, removing, linking, making a folder,
        syncing. What a process has written is in the kernel's hands, so each copy is what a
        `kill -9` at that instant would leave. Equal copies are kept once.

    instants.py resume INSTANTS
        resumes every copy in a fork of this process, which has run a recipe before, and writes
        `code` and `said` of each into INSTANTS/<k>.json. Give it another PYTHONHASHSEED.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import sys
import traceback
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
    """Path -> digest of every file; folders are there too; temporary names are as one."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = _TEMPORARY.sub(".tmp", path.relative_to(folder).as_posix())
        if name != ".lock":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return found


class Recorder:
    """Copies a folder whenever it is about to be changed."""

    def __init__(self, folder: Path, copies: Path) -> None:
        self.folder, self.copies = folder.resolve(), copies.resolve()
        self.count = 0
        self._busy = False
        self._seen: set[str] = set()

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook."""
        if self._busy:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = (mode is not None and set(mode) & set("wax+")) or (
                mode is None and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            )
            touched = [path] if writes else []
        else:
            touched = [arguments[i] for i in _EVENTS.get(event, ())]
        self._busy = True
        try:
            if any(self._inside(path) for path in touched):
                self.take()
        finally:
            self._busy = False

    def _inside(self, path: Any) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return isinstance(path, int)
        # rmtree names files relative to a folder it holds open
        absolute = Path(os.path.abspath(os.fsdecode(path)))
        return absolute.is_relative_to(self.folder) or "/" not in os.fsdecode(path)

    def take(self) -> None:
        """Copy the folder, if it is not as it was before."""
        if not self.folder.is_dir():
            return
        now = json.dumps(content(self.folder))
        if now not in self._seen:
            self._seen.add(now)
            shutil.copytree(self.folder, self.copies / f"{self.count:04d}")
            self.count += 1

    def fsync(self, handle: int, real: Any = os.fsync) -> None:
        """Stands for `os.fsync`."""
        self._busy = True
        self.take()
        self._busy = False
        real(handle)


def assay(*arguments: str) -> int:
    """One command of assay, in this process."""
    from assay.cli import invoke

    return invoke([*arguments])


def checkpoint_always() -> None:
    """A checkpoint after every step."""
    from assay.training import loop

    loop.CHECKPOINT_SECONDS = 0.0


def record(recipe: str, run: Path, copies: Path) -> int:
    """See the module."""
    checkpoint_always()
    recorder = Recorder(run, copies)
    os.fsync = recorder.fsync  # type: ignore[assignment]
    sys.addaudithook(recorder.hook)
    code = assay("run", recipe, "--out", str(run), "--threads", "1")
    recorder.take()
    return code


def resume(copies: Path, warm: str | None = None) -> int:
    """See the module."""
    if warm is not None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            assay("run", warm, "--out", f"{copies}-warm", "--threads", "1")
    for folder in sorted(copies.iterdir()):
        child = os.fork()
        if child == 0:
            _in_child(folder)
        os.waitpid(child, 0)
    return 0


def _in_child(folder: Path) -> None:
    said = io.StringIO()
    code: int | str
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = assay("run", "--resume", str(folder))
    except BaseException:
        code = traceback.format_exc()
    folder.with_suffix(".json").write_text(json.dumps({"code": code, "said": said.getvalue()}))
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] == "record":
        sys.exit(record(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])))
    sys.exit(resume(Path(sys.argv[2]), *sys.argv[3:]))
