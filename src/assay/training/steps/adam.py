"""Adam."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field

from assay.claims import Capabilities, PlanContext
from assay.registry import register
from assay.training.parts import Optimiser
from assay.training.steps._fused import ADAPTIVE, dense

if TYPE_CHECKING:
    import torch


@register("step", "adam")
class Adam(Optimiser):
    """Adam (Kingma, Ba 2015, arXiv 1412.6980): `w -= lr m_hat / (sqrt(v_hat) + eps)`.

    Both moments are corrected for their start at zero. Decay is L2 (coupled): it is added to the
    gradient before the moments see it; `adamw` decouples it.

    Attributes:
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1).
        eps: added to the root of the second moment, > 0.
    """

    shorthand: ClassVar[str | None] = "lr"
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls(lr=0.01, weight_decay=0.01)]

    def capabilities(self, context: PlanContext) -> Capabilities:
        """Its updates are not the gradient times a rate."""
        return ADAPTIVE

    def init(self, params: torch.Tensor) -> dict[str, torch.Tensor]:
        """Both moments `[C, S]` and the number of steps taken (a scalar all clients share)."""
        import torch

        layout = torch.contiguous_format
        return {
            "first": torch.zeros_like(params, memory_format=layout),
            "second": torch.zeros_like(params, memory_format=layout),
            "steps": torch.zeros((), dtype=torch.float32),
        }

    def update(
        self,
        params: torch.Tensor,
        gradient: torch.Tensor,
        state: Mapping[str, torch.Tensor],
        *,
        step: int,
        lr: float,
        weight_decay: float,
    ) -> None:
        """See `Optimiser.update`."""
        import torch

        values, gradients, first, second = dense(params, gradient, state["first"], state["second"])
        torch._fused_adam_(
            values,
            gradients,
            first,
            second,
            [],
            [state["steps"].fill_(step)] * len(values),
            lr=lr,
            beta1=self.beta1,
            beta2=self.beta2,
            weight_decay=weight_decay,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )
