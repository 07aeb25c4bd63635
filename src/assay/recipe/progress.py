"""Telling a person how far a run is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import IO, Any


class Lines:
    """Plain lines: one when a tenth more is done, and whatever is worth keeping."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self.stream = stream if stream is not None else sys.stderr
        self._tenth: tuple[int, int] | None = None

    def update(self, done: int, total: int, text: str = "") -> None:
        """`done` of `total`, and what just happened."""
        tenth = (total, 10 * done // total if total > 0 else 10)
        if tenth != self._tenth:
            self._tenth = tenth
            self.say(f"{done}/{total} {text}".rstrip())

    def say(self, text: str) -> None:
        """One line."""
        self.stream.write(text + "\n")
        self.stream.flush()

    def close(self) -> None:
        """Nothing is left open."""


class Bar:
    """A bar that follows the newest update, with lines worth keeping above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

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
        """`done` of `total`, and what just happened; the bar goes when all is done."""
        if self._task is not None and (total != self._total or done < self._last):
            self._end()
        if self._task is None:
            self._task = self._progress.add_task("", total=total)
            self._progress.start()
        self._total, self._last = total, done
        self._progress.update(self._task, completed=done, description=text)
        if done >= total:
            self._end()

    def _end(self) -> None:
        self._progress.stop()
        self._progress.remove_task(self._task)
        self._task = None

    def say(self, text: str) -> None:
        """One line above the bar."""
        self._console.print(text, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._task is not None:
            self._end()


def progress_for(stream: IO[str] | None = None) -> Lines | Bar:
    """A bar where standard error is a terminal, else lines on `stream` (standard error)."""
    stream = stream if stream is not None else sys.stderr
    return Bar() if stream is sys.stderr and stream.isatty() else Lines(stream)
