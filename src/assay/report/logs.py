"""What a run wrote line by line: its text files, its logs, the time its stages took."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.errors import LoadError


def text(path: Path) -> str:
    """A text file; empty where there is none.

    Raises:
        LoadError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise LoadError(
            f"cannot read: {error.strerror}", where=str(path), mend="make it readable"
        ) from error


def lines(path: Path) -> list[Mapping[str, Any]]:
    """The JSON lines of a log; a line that a kill cut short is no reason to show nothing."""
    found = []
    for line in text(path).splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, Mapping):
            found.append(value)
    return found


def wall_times(log: list[Mapping[str, Any]]) -> dict[int, float]:
    """Wall time by stage: the sum of its own lines, or else of those of its steps and epochs."""
    whole: dict[int, float] = {}
    parts: dict[int, float] = {}
    for line in log:
        index = line.get("stage")
        time = line.get("seconds", line.get("wall_seconds"))
        if (
            isinstance(index, bool)
            or not isinstance(index, int)
            or isinstance(time, bool)
            or not isinstance(time, (int, float))
        ):
            continue
        if not math.isfinite(time):
            continue
        into = parts if {"epoch", "step"} & set(line) else whole
        into[index] = into.get(index, 0.0) + float(time)
    return parts | whole
