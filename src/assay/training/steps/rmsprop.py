"""RMSprop."""

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

#: coordinates worked on at a time, so that temporaries stay in the processor's cache
_CHUNK = 1 << 16


@register("step", "rmsprop")
class RMSprop(Optimiser):
    """RMSprop (Tieleman, Hinton 2012, Neural Networks for Machine Learning, lecture 6.5):
    `v = smoothing v + (1 - smoothing) g^2; w -= lr g / (sqrt(v) + eps)`. Decay is L2 (coupled).

    Attributes:
        smoothing: decay of the mean square, in [0, 1).
        momentum: share of the last update kept, in [0, 1).
        centered: divide by the standard deviation instead (Graves 2013, arXiv 1308.0850).
        eps: added to the root, > 0.
    """

    shorthand: ClassVar[str | None] = "lr"
    smoothing: float = Field(default=0.99, ge=0, lt=1)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    centered: bool = False
    eps: float = Field(default=1e-8, gt=0)

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls(lr=0.005, momentum=0.9, centered=True, weight_decay=1e-3)]

    def capabilities(self, context: PlanContext) -> Capabilities:
        """Its updates are not the gradient times a rate."""
        return ADAPTIVE

    def init(self, params: torch.Tensor) -> dict[str, torch.Tensor]:
        """The mean square `[C, S]`, and mean and momentum where they are asked for."""
        import torch

        names = ["squares"]
        names += ["mean"] if self.centered else []
        names += ["momentum"] if self.momentum else []
        layout = torch.contiguous_format
        return {name: torch.zeros_like(params, memory_format=layout) for name in names}

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
        buffers = dense(params, gradient, *state.values())
        for row in zip(*buffers, strict=True):
            for values, grad, *held in zip(
                *(tensor.view(-1).split(_CHUNK) for tensor in row), strict=True
            ):
                self._chunk(values, grad, dict(zip(state, held, strict=True)), lr, weight_decay)

    def _chunk(
        self,
        values: torch.Tensor,
        grad: torch.Tensor,
        state: dict[str, torch.Tensor],
        lr: float,
        weight_decay: float,
    ) -> None:
        if weight_decay:
            grad = grad.add(values, alpha=weight_decay)
        squares = state["squares"].mul_(self.smoothing)
        squares.addcmul_(grad, grad, value=1 - self.smoothing)
        if self.centered:
            mean = state["mean"].lerp_(grad, 1 - self.smoothing)
            # the variance of a constant gradient can round to less than zero
            scale = squares.addcmul(mean, mean, value=-1).clamp_(min=0).sqrt_().add_(self.eps)
        else:
            scale = squares.sqrt().add_(self.eps)
        if self.momentum:
            kept = state["momentum"].mul_(self.momentum).addcdiv_(grad, scale)
            values.add_(kept, alpha=-lr)
        else:
            values.addcdiv_(grad, scale, value=-lr)
