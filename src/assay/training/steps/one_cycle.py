"""The one-cycle schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import Field

from assay.registry import register
from assay.training.parts import Schedule
from assay.training.steps._warmup import warmup_steps


@register("step", "one_cycle")
class OneCycle(Schedule):
    """Rises along half a cosine from `start` to 1 and falls along another to `floor` (Smith 2018,
    arXiv 1803.09820; Smith, Topin 2019, arXiv 1708.07120). `lr` is the highest rate. The warm-up
    is the rise: unlike that of other schedules it begins at `start`, and its last step has `lr`.

    Attributes:
        start: factor of the first step, in (0, 1].
        floor: factor of the last step, in [0, 1].
    """

    shorthand: ClassVar[str | None] = "warmup"
    warmup: float = Field(default=0.3, ge=0)
    start: float = Field(default=0.04, gt=0, le=1)
    floor: float = Field(default=4e-6, ge=0, le=1)

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls()]

    def factor(self, step: int, total: int, state: Mapping[str, float]) -> float:
        """The two half cosines: up to the last step of the warm-up, then down to the last step."""
        peak = max(0, warmup_steps(self.warmup, total) - 1)
        if step < peak:
            return _between(self.start, 1.0, step / peak)
        return _between(1.0, self.floor, min(1.0, (step - peak) / max(1, total - 1 - peak)))


def _between(start: float, end: float, share: float) -> float:
    """From `start` to `end` along half a cosine."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))
