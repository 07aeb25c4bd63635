"""Clipping each coordinate of the gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from assay.registry import register
from assay.training.parts import GradientPart

if TYPE_CHECKING:
    import torch


@register("step", "clip_value")
class ClipValue(GradientPart):
    """Clip each coordinate of the gradient to `[-max, max]`.

    Attributes:
        max: largest absolute value, > 0.
    """

    shorthand: ClassVar[str | None] = "max"
    max: float = Field(default=1.0, gt=0)

    def update(
        self,
        gradient: torch.Tensor,
        params: torch.Tensor,
        state: Mapping[str, torch.Tensor],
        *,
        step: int,
    ) -> dict[str, torch.Tensor]:
        """Clip in place."""
        gradient.clamp_(-self.max, self.max)
        return {}
