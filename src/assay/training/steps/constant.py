"""The constant schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from assay.registry import register
from assay.training.parts import Schedule
from assay.training.steps._warmup import rising, warmup_steps


@register("step", "constant")
class Constant(Schedule):
    """`lr` all along, after the warm-up."""

    shorthand: ClassVar[str | None] = "warmup"

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls(warmup=2)]

    def factor(self, step: int, total: int, state: Mapping[str, float]) -> float:
        """1 after the warm-up."""
        early = rising(step, warmup_steps(self.warmup, total))
        return 1.0 if early is None else early
