"""The folder of a run: what is in it, who may write to it, and how far it has come."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay import files
from assay.errors import ArtefactError, LoadError, UsageError

_STATE = "state.json"
_LOCK = ".lock"
_RECIPE, _ENVIRONMENT, _PLAN = "recipe.yaml", "environment.json", "plan.json"
#: names under which files and folders are written before they are renamed
_HALF_WRITTEN = re.compile(r"^\..+\.(tmp|new|old)$")


@dataclass
class State:
    """How far a run has come; written after each stage.

    Attributes:
        done: number of finished stages.
        metrics: length of `metrics.jsonl` when the current stage began.
        data_digest: digest of the data the run reads.
        model_digest: digest of the weights that its first stage begins with.
        keyid: the key that signs the passport; empty where none does.
        finished: the model is in `model/` and the report is written.
    """

    done: int = 0
    metrics: int = 0
    data_digest: str = ""
    model_digest: str = ""
    keyid: str = ""
    finished: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


class RunFolder:
    """A run's folder, locked by this process while it is open.

    Args:
        path: the folder.
        made: the outermost folder that is made for this run and goes with it if it never begins;
            None where the user's own folder is used.
    """

    def __init__(self, path: Path, made: Path | None = None) -> None:
        self.path, self._made = path, made

    @property
    def model(self) -> Path:
        """The finished model."""
        return self.path / "model"

    @property
    def metrics(self) -> Path:
        """The curves."""
        return self.path / "metrics.jsonl"

    def stage_model(self, index: int) -> Path:
        """The model after a stage."""
        return self.path / "checkpoints" / f"after-{index}"

    def stage_work(self, index: int) -> Path:
        """Scratch of a stage under way."""
        return self.path / "checkpoints" / f"stage-{index}"

    @property
    def secret(self) -> Path:
        """Where the key of the run's private randomness is, while the run lasts."""
        return self.path / "checkpoints" / "secret"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; the lock goes with the process, however it ends.

        Raises:
            UsageError: another process runs in this folder.
            LoadError: the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise LoadError(
                f"cannot write here: {error.strerror}",
                where=str(self.path),
                mend="choose another folder with --out",
            ) from error
        try:
            if not _lock(handle, self.path / _LOCK):
                raise UsageError(
                    "another run is writing to this folder",
                    where=str(self.path),
                    mend="wait for it, or choose another folder with --out",
                )
            yield
        finally:
            os.close(handle)

    @property
    def begun(self) -> bool:
        """Whether data and model were loaded, so that the folder is worth keeping."""
        return (self.path / _STATE).exists()

    @property
    def described(self) -> bool:
        """Whether it is written what the run is."""
        return (self.path / _ENVIRONMENT).is_file()

    def describe(self, recipe: bytes, environment: dict[str, Any], plan: dict[str, Any]) -> None:
        """Write what the run is, before it does anything; with the recipe it can be resumed."""
        files.write_json(self.path / _ENVIRONMENT, environment)
        files.write_json(self.path / _PLAN, plan)
        files.write_bytes(self.path / _RECIPE, recipe)

    def forget(self) -> None:
        """Remove what a run that never began has written; call while locked."""
        if self.begun:
            return
        self.sweep()
        shutil.rmtree(self.secret.parent, ignore_errors=True)
        for name in (_RECIPE, _PLAN, _ENVIRONMENT, _LOCK):
            with contextlib.suppress(OSError):
                (self.path / name).unlink()
        if self._made is None:
            return
        for folder in (self.path, *self.path.parents):
            try:
                folder.rmdir()
            except OSError:  # another run's, or something of the user's
                break
            if folder == self._made:
                break

    def sweep(self) -> None:
        """Remove what a killed process left half-written; call while locked."""
        folders = [self.path, self.path / "evidence", self.path / "checkpoints"]
        folders += sorted((self.path / "checkpoints").glob("stage-*"))
        for path in [p for f in folders if f.is_dir() for p in f.iterdir()]:
            if not _HALF_WRITTEN.match(path.name):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def environment(self) -> dict[str, Any]:
        """Versions, machine and threads that the run began with.

        Raises:
            ArtefactError: the file that says so is damaged.
        """
        path = self.path / _ENVIRONMENT
        found = files.read_json(path)
        if not isinstance(found, dict) or not isinstance(found.get("threads"), int):
            raise ArtefactError(
                "not a valid environment", where=str(path), mend="start the run anew"
            )
        return found

    def read_state(self) -> State:
        """How far the run has come: nowhere yet, if it was stopped before data and model were
        loaded.

        Raises:
            UsageError: the folder holds no run.
            ArtefactError: its state is damaged.
        """
        path = self.path / _STATE
        if not path.is_file():
            if (self.path / _RECIPE).is_file():
                return State()
            raise UsageError(
                "this folder holds no run",
                where=str(self.path),
                mend="name the folder that a run printed",
            )
        raw, kinds = files.read_json(path), {k: type(v) for k, v in State().__dict__.items()}
        if (
            not isinstance(raw, dict)
            or not set(raw) <= set(kinds)
            or any(type(value) is not kinds[key] for key, value in raw.items())
            or min(raw.get("done", 0), raw.get("metrics", 0)) < 0
        ):
            raise ArtefactError("not a valid state", where=str(path), mend="start the run anew")
        return State(**raw)

    def write_state(self, state: State) -> None:
        """Record how far the run has come."""
        files.write_json(self.path / _STATE, state.__dict__)

    def append(self, name: str, line: dict[str, Any]) -> None:
        """Append a line of JSON to one of the run's logs.

        Raises:
            LoadError: the disk is full.
        """
        path = self.path / name
        try:
            with path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line, sort_keys=True) + "\n")
        except OSError as error:
            raise LoadError(
                f"cannot write: {error.strerror}", where=str(path), mend="free some space"
            ) from error


def _lock(handle: int, path: Path) -> bool:
    """Take the lock; False where another process has it, or has just removed the file."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


def open_folder(out: Path | None, name: str) -> RunFolder:
    """The folder of a new run: `out`, or the next free `runs/<name>/<n>`.

    Raises:
        UsageError: `out` holds a run, or something else.
        LoadError: it cannot be made.
    """
    if out is not None:
        return RunFolder(new_folder(out), _missing(out))
    parent = Path("runs") / name
    made = _missing(parent)
    folder = next_folder(Path("runs"), name)
    return RunFolder(folder, made or folder)


def _missing(path: Path) -> Path | None:
    """The outermost folder that must be made for `path` to exist."""
    found = None
    for folder in (path, *path.parents):
        if folder.exists():
            break
        found = folder
    return found


def next_folder(root: Path, name: str) -> Path:
    """`runs/<name>/<n>` with the next free n, made at once so that two runs never share it.

    Raises:
        LoadError: it cannot be made.
    """
    parent = root / name
    n = 0
    try:
        while True:
            parent.mkdir(parents=True, exist_ok=True)
            taken = [int(p.name) for p in parent.iterdir() if p.name.isdigit()]
            n = max(n, *taken, 0) + 1
            # another run may make the same folder, or remove the parent when it fails at once
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                (parent / str(n)).mkdir()
                return parent / str(n)
    except OSError as error:
        raise LoadError(
            f"cannot make a folder for the run: {error.strerror}",
            where=str(parent),
            mend="choose another folder with --out",
        ) from error


def new_folder(path: Path) -> Path:
    """A folder named by the user: it must not hold anything yet.

    Raises:
        UsageError: it holds a run, or something else.
        LoadError: it cannot be made.
    """
    try:
        there = sorted(p.name for p in path.iterdir()) if path.is_dir() else []
    except OSError as error:
        raise LoadError(
            f"cannot read this folder: {error.strerror}", where=str(path), mend="choose another"
        ) from error
    if _STATE in there:
        raise UsageError(
            "this folder holds a run already",
            where=str(path),
            mend=f"go on with it: --resume {path}, or choose another folder",
        )
    if [name for name in there if name != _LOCK]:
        raise UsageError(
            "this folder is not empty", where=str(path), mend="choose another folder with --out"
        )
    if path.exists() and not path.is_dir():
        raise UsageError("this is a file", where=str(path), mend="name a folder")
    return path
