"""AlexNet from scratch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from assay.models.architectures._vision import Vision
from assay.registry import register

if TYPE_CHECKING:
    import torch

#: images of at least this many pixels a side get the stock stem
STOCK_FROM = 64


@register("architecture", "alexnet")
class AlexNet(Vision):
    """AlexNet in its one-column form (Krizhevsky 2014, arXiv 1404.5997).

    Attributes:
        stem: `stock` (11x11, stride 4), `small` (3x3, for images of about 32 pixels), or `auto`: by
            the size of the images.
        base: channels of the first convolution; the others keep their proportion.
        hidden: width of the dense layers (default: 4096, with the small stem 1152, which makes 6.3
            million parameters).
        grid: side of the maps that the dense layers see (default: 6, with the small stem 3).
        dropout: rate before each dense layer.
    """

    stem: Literal["auto", "stock", "small"] = "auto"
    base: int = Field(default=64, ge=1)
    hidden: int | None = Field(default=None, ge=1)
    grid: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.5, ge=0, lt=1)

    def small(self) -> bool:
        """Whether the stem is the small one."""
        return min(self.seen()) < STOCK_FROM if self.stem == "auto" else self.stem == "small"

    def trunk(self) -> torch.nn.Module:
        """`[N, C, H, W]` -> `[N, H]`."""
        from assay.models.convolutional import AlexNetTrunk

        grid = self.grid or (3 if self.small() else 6)
        return AlexNetTrunk(self.takes(), self.small(), self.base, self.width(), grid, self.dropout)

    def width(self) -> int:
        """H: width of the dense layers."""
        return self.hidden or (1152 if self.small() else 4096)

    def block_count(self) -> int | None:
        """Number of convolutions."""
        return 5
