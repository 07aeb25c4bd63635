"""ResNet-18 from scratch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from assay.models.architectures._vision import Vision
from assay.registry import register

if TYPE_CHECKING:
    import torch


@register("architecture", "resnet18")
class ResNet18(Vision):
    """A residual network of four stages (He et al. 2015, arXiv 1512.03385).

    Attributes:
        stem: `stock` (7x7 with stride 2, then a pooling) or `small` (3x3, for small images).
        base: channels of the first stage; each further one has twice as many.
        depths: blocks of each stage.
        norm: `batch`, `group` (for private training), or `none`.
    """

    linear: ClassVar[bool] = False
    stem: Literal["stock", "small"] = "stock"
    base: int = Field(default=64, ge=1)
    depths: tuple[int, ...] = Field(default=(2, 2, 2, 2), min_length=1, max_length=6)
    norm: Literal["batch", "group", "none"] = "batch"

    def trunk(self) -> torch.nn.Module:
        """`[N, C, H, W]` -> `[N, H]`."""
        from assay.models.convolutional import ResNetTrunk

        return ResNetTrunk(self.takes(), self.depths, self.base, self.stem == "small", self.norm)

    def width(self) -> int:
        """H: channels of the last stage."""
        return int(self.base * 2 ** (len(self.depths) - 1))

    def block_count(self) -> int | None:
        """Number of residual blocks."""
        return sum(self.depths)
