"""What can go wrong, and the exit code of each kind.

A user's mistake never shows a traceback: it is one of these, whose text is one line that says
what is wrong, where, and how to mend it.

| code | class | meaning |
| --- | --- | --- |
| 2 | `UsageError` | bad usage, or a recipe that is wrong or refused by `plan` |
| 3 | `ClaimError` | a required claim does not hold |
| 4 | `LoadError` | data or a model cannot be loaded, or a result cannot be written |
| 5 | `BudgetError` | a privacy budget refused the run |
| 6 | `SiteError` | a site or a cluster failed |
| 7 | `ArtefactError` | an artefact is damaged or not trusted |
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar


class AssayError(Exception):
    """Base of every error a user can cause or meet.

    Args:
        what: what is wrong, without a full stop.
        where: recipe path, file, row, column or site.
        mend: how to mend it, in the imperative.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str | None = None, mend: str | None = None) -> None:
        self.what, self.where, self.mend = what, where, mend
        super().__init__(self.line())

    def line(self) -> str:
        """The error as the one line that the command prints."""
        text = f"{self.where}: {self.what}" if self.where else self.what
        if self.mend:
            text = f"{text}; {self.mend}"
        return " ".join(text.split())


class UsageError(AssayError):
    """Bad usage of a command, or a recipe that is wrong or refused (exit 2)."""

    exit_code = 2


class ClaimError(AssayError):
    """A required claim does not hold (exit 3)."""

    exit_code = 3


class LoadError(AssayError):
    """Data or a model cannot be loaded, or output cannot be written (exit 4)."""

    exit_code = 4


class BudgetError(AssayError):
    """A privacy budget refused the run (exit 5)."""

    exit_code = 5


class SiteError(AssayError):
    """A site or a cluster failed (exit 6)."""

    exit_code = 6


class ArtefactError(AssayError):
    """An artefact is damaged or not trusted (exit 7)."""

    exit_code = 7


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for a mistyped word: the closest known one, else the list of all.

    >>> did_you_mean("finetun", ["finetune", "audit"])
    "did you mean 'finetune'?"
    >>> did_you_mean("zzz", ["audit", "finetune"])
    'one of: audit, finetune'
    """
    names = sorted(known)
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else "one of: " + ", ".join(names)
