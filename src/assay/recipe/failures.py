"""What a command says when it fails: one line a reason, an exit code, and the same as JSON."""

from __future__ import annotations

import errno
import os
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.errors import AssayError, LoadError, UsageError

#: errors of the operating system that are the user's to mend
_MENDABLE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "choose a folder that takes larger files",
    errno.EROFS: "choose another folder",
    errno.EACCES: "choose another folder, or change its permissions",
    errno.EPERM: "choose another folder, or change its permissions",
    errno.EEXIST: "remove what stands in the way",
    errno.EISDIR: "remove what stands in the way",
    errno.ENOTDIR: "remove what stands in the way",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


@dataclass(frozen=True)
class Failure:
    """A failure, ready to be printed.

    Attributes:
        code: the exit code.
        lines: what is wrong, the main reason first.
        json: the same for a program.
        trace: where it happened, for an error that is a bug.
    """

    code: int
    lines: tuple[str, ...]
    json: dict[str, Any]
    trace: str = ""


def explain(error: Exception) -> Failure:
    """What to say of an error, whosever fault it is."""
    known = error if isinstance(error, AssayError) else _mendable(error)
    return _refused(known) if known is not None else _bug(error)


def _mendable(error: Exception) -> AssayError | None:
    """What the user can mend, among the errors that are not ours."""
    if isinstance(error, OSError) and error.errno in _MENDABLE:
        return LoadError(
            error.strerror or "cannot be written",
            where=str(error.filename) if error.filename else None,
            mend=_MENDABLE[error.errno],
        )
    if isinstance(error, MemoryError):
        return LoadError("not enough memory", mend="use a smaller batch or a smaller model")
    return None


def _refused(error: AssayError) -> Failure:
    refusals = getattr(error, "refusals", ())
    others = [
        UsageError(other.what, where=other.where or None, mend=other.mend or None)
        for other in refusals[1:]
    ]
    shown: dict[str, Any] = {
        "type": type(error).__name__,
        "what": error.what,
        "where": error.where,
        "mend": error.mend,
        "exit_code": error.exit_code,
    }
    if refusals:
        shown["refusals"] = [refusal.model_dump() for refusal in refusals]
    lines = tuple(one.line() for one in (error, *others))
    return Failure(error.exit_code, lines, {"error": shown})


def _bug(error: Exception) -> Failure:
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}"
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    wanted = bool(os.environ.get("ASSAY_TRACEBACK"))
    mend = "please report it" + ("" if wanted else " with what ASSAY_TRACEBACK=1 prints")
    shown = {"type": type(error).__name__, "what": text, "where": place, "mend": mend}
    return Failure(
        1,
        (f"{text} ({place}); this is a bug in assay: {mend}",),
        {"error": {**shown, "exit_code": 1}},
        "".join(traceback.format_exception(error)) if wanted else "",
    )
