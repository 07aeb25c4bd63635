"""Means of scalars over an interval of steps, as a state that is saved."""

from __future__ import annotations

from typing import Any


class Meter:
    """Sums what it is told, and gives the means."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, values: dict[str, float]) -> None:
        """One step's scalars."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1

    def take(self) -> dict[str, float]:
        """Means since the last time, to eight digits; begins anew."""
        means = {name: round(value / self._count, 8) for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return means

    def state(self) -> dict[str, Any]:
        """Plain values."""
        return {"sums": dict(self._sums), "count": self._count}

    def restore(self, state: dict[str, Any]) -> None:
        """Undo everything since `state` was taken."""
        self._sums, self._count = dict(state["sums"]), int(state["count"])
