"""The one door for numbers that depend on more than one privacy unit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt


class Door(Protocol):
    """Where a part asks for a number that depends on more than one privacy unit (law 2)."""

    def bounded_sum(
        self, name: str, values: npt.NDArray[np.float64], bound: float
    ) -> npt.NDArray[np.float64]:
        """Sum `values` `[U, ...]` over units, each unit's L2 norm clipped to `bound`.

        Plain locally; noised and charged under privacy; secure under federation.
        """
        ...


@dataclass
class LocalDoor:
    """The plain sum. Records what was asked, so that a test can hold declarations against it."""

    asked: list[str] = field(default_factory=list)

    def bounded_sum(
        self, name: str, values: npt.NDArray[np.float64], bound: float
    ) -> npt.NDArray[np.float64]:
        """See `Door.bounded_sum`."""
        self.asked.append(name)
        flat = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
        if np.isfinite(bound):
            norms = np.linalg.norm(flat, axis=1, keepdims=True)
            flat = flat * np.minimum(1.0, bound / np.maximum(norms, 1e-300))
        result: npt.NDArray[np.float64] = flat.sum(axis=0).reshape(np.asarray(values).shape[1:])
        return result
