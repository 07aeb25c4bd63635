"""Clipping the norm of the gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from assay.registry import register
from assay.training.parts import GradientPart

if TYPE_CHECKING:
    import torch


@register("step", "clip_norm")
class ClipNorm(GradientPart):
    """Scale the gradient of each client to an L2 norm of at most `max` (Pascanu, Mikolov, Bengio
    2013, arXiv 1211.5063). This clips the batch's gradient and gives no privacy.

    Attributes:
        max: largest L2 norm over all moving parameters, > 0.
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
        """Clip in place; `gradient_norm` is the norm before clipping (mean over clients)."""
        import torch

        norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
        # not "<=": a norm that is not a number must reach the loop's check as it is
        if not bool((norm <= self.max).all()):
            gradient.mul_(self.max / norm.clamp(min=self.max))
        return {"gradient_norm": norm.mean()}
