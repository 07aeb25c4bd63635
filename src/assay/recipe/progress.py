"""Telling a person how far a run is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def _nothing(folder: Path) -> None:
    pass


class Lines:
    """Plain lines: one when a tenth more is done, and whatever is worth keeping.

    Attributes:
        started: a run calls it with its folder once that is known.
    """

    def __init__(
        self, stream: IO[str] | None = None, started: Callable[[Path], None] = _nothing
    ) -> None:
        self.stream = stream if stream is not None else sys.stderr
        self.started = started
        self._tenth: tuple[int, int] | None = None

    def update(self, done: int, total: int, text: str = "") -> None:
        """`done` of `total`, and what just happened."""
        tenth = (total, 10 * done // total if total > 0 else 10)
        if tenth != self._tenth:
            self._tenth = tenth
            self.say(f"{done}/{total} {text}".rstrip())

    def say(self, text: str) -> None:
        """One line."""
        print(text, file=self.stream, flush=True)

    def close(self) -> None:
        """Nothing is left open."""


class Bar:
    """A bar that follows the newest update, with lines worth keeping above it.

    Attributes:
        started: a run calls it with its folder once that is known.
    """

    def __init__(self, started: Callable[[Path], None] = _nothing) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn

        self.started = started
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            transient=True,
        )
        self._task: Any = None
        self._total = -1
        self._last = -1

    def update(self, done: int, total: int, text: str = "") -> None:
        """`done` of `total`, and what just happened. Going back starts a new bar."""
        if self._task is None or total != self._total or done < self._last:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task("", total=total)
            self._progress.start()
        self._total, self._last = total, done
        self._progress.update(self._task, completed=done, description=text)

    def say(self, text: str) -> None:
        """One line above the bar."""
        self._console.print(text, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bar off the screen."""
        self._progress.stop()


def progress_for(
    stream: IO[str] | None = None, started: Callable[[Path], None] = _nothing
) -> Lines | Bar:
    """A bar where standard error is a terminal, else lines.

    Args:
        stream: where lines go, standard error by default.
        started: called with the run's folder once that is known.
    """
    stream = stream if stream is not None else sys.stderr
    return Bar(started) if stream is sys.stderr and stream.isatty() else Lines(stream, started)
