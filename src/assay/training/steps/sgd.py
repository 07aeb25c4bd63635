"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from assay.claims import Capabilities, PlanContext
from assay.registry import register
from assay.training.parts import Optimiser
from assay.training.steps._fused import dense

if TYPE_CHECKING:
    import torch


@register("step", "sgd")
class Sgd(Optimiser):
    """SGD: `g += weight_decay w; m = momentum m + (1 - dampening) g; w -= lr m`.

    Momentum as Sutskever, Martens, Dahl, Hinton (2013, ICML) have it in the form torch uses
    (the rate outside the buffer); the first step sets `m = g`. Decay is L2 (coupled).

    Attributes:
        momentum: share of the last update kept, in [0, 1).
        dampening: share of the gradient left out of the buffer, in [0, 1].
        nesterov: look ahead: step along `g + momentum m` (needs momentum, no dampening).
    """

    shorthand: ClassVar[str | None] = "lr"
    momentum: float = Field(default=0.0, ge=0, lt=1)
    dampening: float = Field(default=0.0, ge=0, le=1)
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError("nesterov needs momentum and no dampening; set momentum: 0.9")
        return self

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls(lr=0.05), cls(lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)]

    def capabilities(self, context: PlanContext) -> Capabilities:
        """Momentum and decay make an update more than the gradient times a rate."""
        if self.momentum == 0 and self.weight_decay == 0:
            return Capabilities()
        return Capabilities(
            breaks=frozenset({"sgd_updates"}),
            why={"sgd_updates": "adds momentum or weight decay to the gradient"},
            mend={"sgd_updates": "set momentum: 0 and weight_decay: 0"},
        )

    def init(self, params: torch.Tensor) -> dict[str, torch.Tensor]:
        """The momentum buffer, `[C, S]`, when there is momentum."""
        import torch

        if self.momentum == 0:
            return {}
        return {"momentum": torch.zeros_like(params, memory_format=torch.contiguous_format)}

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

        moving = (params, gradient, *state.values())
        values, gradients, *momentum = dense(*moving)
        torch._fused_sgd_(
            values,
            gradients,
            momentum[0] if momentum else [],
            weight_decay=weight_decay,
            momentum=self.momentum,
            lr=lr,
            dampening=self.dampening,
            nesterov=self.nesterov,
            maximize=False,
            is_first_step=step == 1,
        )
