"""Adagrad."""

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


@register("step", "adagrad")
class Adagrad(Optimiser):
    """Adagrad (Duchi, Hazan, Singer 2011, JMLR 12): `s += g^2; w -= lr g / (sqrt(s) + eps)`.

    Decay is L2 (coupled).

    Attributes:
        initial: start of the accumulator s, >= 0.
        rate_decay: the rate at step t (from 1) is `lr / (1 + (t - 1) rate_decay)`, >= 0.
        eps: added to the root of the accumulator, > 0.
    """

    shorthand: ClassVar[str | None] = "lr"
    initial: float = Field(default=0.0, ge=0)
    rate_decay: float = Field(default=0.0, ge=0)
    eps: float = Field(default=1e-10, gt=0)

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls(lr=0.05, weight_decay=1e-3)]

    def capabilities(self, context: PlanContext) -> Capabilities:
        """Its updates are not the gradient times a rate."""
        return ADAPTIVE

    def init(self, params: torch.Tensor) -> dict[str, torch.Tensor]:
        """The accumulator `[C, S]` and the number of steps taken (a scalar all clients share)."""
        import torch

        layout = torch.contiguous_format
        return {
            "squares": torch.full_like(params, self.initial, memory_format=layout),
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

        values, gradients, squares = dense(params, gradient, state["squares"])
        torch._fused_adagrad_(
            values,
            gradients,
            squares,
            [state["steps"].fill_(step)] * len(values),
            lr=lr,
            lr_decay=self.rate_decay,
            weight_decay=weight_decay,
            eps=self.eps,
            maximize=False,
        )
