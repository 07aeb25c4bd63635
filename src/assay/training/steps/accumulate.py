"""Gradient accumulation."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field

from assay.registry import register
from assay.training.parts import Setting


@register("step", "accumulate")
class Accumulate(Setting):
    """Take one step on several micro-batches; the loss is the mean over all their rows, so the
    result equals one large batch (to rounding).

    Attributes:
        batches: micro-batches of one step, >= 1.
    """

    shorthand: ClassVar[str | None] = "batches"
    batches: int = Field(default=1, ge=1)

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls(batches=2)]
