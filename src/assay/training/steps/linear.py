"""The linear schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import Field

from assay.registry import register
from assay.training.parts import Schedule
from assay.training.steps._warmup import progress, rising, warmup_steps


@register("step", "linear")
class Linear(Schedule):
    """Falls linearly from `lr` after the warm-up to `floor` times `lr` at the end (Devlin et al.
    2019, arXiv 1810.04805, with floor 0).

    Attributes:
        floor: factor that the end would reach, in [0, 1].
    """

    shorthand: ClassVar[str | None] = "warmup"
    floor: float = Field(default=0.0, ge=0, le=1)

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls(warmup=0.1)]

    def factor(self, step: int, total: int, state: Mapping[str, float]) -> float:
        """`floor + (1 - floor) (1 - progress)` after the warm-up."""
        warmup = warmup_steps(self.warmup, total)
        early = rising(step, warmup)
        if early is not None:
            return early
        return self.floor + (1 - self.floor) * (1 - progress(step, warmup, total))
