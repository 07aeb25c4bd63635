"""An exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from assay.registry import register
from assay.training.parts import WeightsPart

if TYPE_CHECKING:
    import torch


@register("step", "ema")
class Ema(WeightsPart):
    """Keep the exponential moving average of the parameters instead of the last ones (Polyak,
    Juditsky 1992), corrected for its start as Adam corrects its moments (Kingma, Ba 2015, arXiv
    1412.6980): after step t it is `sum_k decay^(t-k) w_k / sum_k decay^(t-k)`, k = 1..t, so early
    averages are unbiased and the initial weights have no share in them.

    Attributes:
        decay: factor on the past per step, in [0, 1).
    """

    shorthand: ClassVar[str | None] = "decay"
    decay: float = Field(default=0.999, ge=0, lt=1)

    def init(self, params: torch.Tensor) -> dict[str, torch.Tensor]:
        """The average `[C, P]`; before the first step the parameters themselves."""
        return {"average": params.detach().clone()}

    def update(self, params: torch.Tensor, state: Mapping[str, torch.Tensor], *, step: int) -> None:
        """Move the average towards `params` by the share that leaves it unbiased."""
        state["average"].lerp_(params, (1 - self.decay) / (1 - self.decay**step))

    def final(self, params: torch.Tensor, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The average."""
        return state["average"]
