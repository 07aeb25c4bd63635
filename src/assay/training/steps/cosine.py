"""The cosine schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import Field

from assay.registry import register
from assay.training.parts import Schedule
from assay.training.steps._warmup import progress, rising, warmup_steps


@register("step", "cosine")
class Cosine(Schedule):
    """Falls along half a cosine from `lr` after the warm-up to `floor` times `lr` at the end
    (Loshchilov, Hutter 2017, arXiv 1608.03983, one cycle without restarts).

    Attributes:
        floor: factor that the end would reach, in [0, 1].
    """

    shorthand: ClassVar[str | None] = "warmup"
    floor: float = Field(default=0.0, ge=0, le=1)

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls(warmup=0.1, floor=0.1)]

    def factor(self, step: int, total: int, state: Mapping[str, float]) -> float:
        """`floor + (1 - floor) (1 + cos(pi progress)) / 2` after the warm-up."""
        warmup = warmup_steps(self.warmup, total)
        early = rising(step, warmup)
        if early is not None:
            return early
        wave = 0.5 * (1 + math.cos(math.pi * progress(step, warmup, total)))
        return self.floor + (1 - self.floor) * wave
