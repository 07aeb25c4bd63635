"""EfficientNet-Lite, pretrained or from scratch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from assay.models.architectures._vision import Vision
from assay.registry import register

if TYPE_CHECKING:
    import torch


@register("architecture", "efficientnet-lite")
class EfficientNetLite(Vision):
    """EfficientNet-Lite (after Tan and Le 2019, arXiv 1905.11946): 16 inverted residual blocks
    and a 1x1 convolution, no squeeze-and-excitation, ReLU6, padded as TensorFlow pads. Grey images
    are repeated over its three channels.

    Attributes:
        multiplier: factor on the channels of the blocks (1.0 is Lite0 and Lite1).
        depth: factor on their number.
    """

    linear: ClassVar[bool] = False
    trunk_channels: ClassVar[int | None] = 3

    mean: tuple[float, ...] = Field(default=(127 / 255,), min_length=1, max_length=3)
    std: tuple[float, ...] = Field(default=(128 / 255,), min_length=1, max_length=3)
    multiplier: float = Field(default=1.0, gt=0, le=4)
    depth: float = Field(default=1.0, gt=0, le=4)

    def trunk(self) -> torch.nn.Module:
        """`[N, 3, H, W]` -> `[N, 1280]`."""
        from assay.models.efficientnet import EfficientNetLiteTrunk

        return EfficientNetLiteTrunk(self.multiplier, self.depth)

    def width(self) -> int:
        """1280."""
        return 1280

    def block_count(self) -> int | None:
        """Number of blocks of Lite0, the last convolution among them."""
        return 17 if self.depth == 1 else None
