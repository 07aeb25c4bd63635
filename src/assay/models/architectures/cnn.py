"""A small convolutional network from scratch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from assay.models.architectures._vision import Vision
from assay.registry import register

if TYPE_CHECKING:
    import torch


@register("architecture", "cnn")
class CNN(Vision):
    """Stages of 3x3 convolutions, the image halved between them, averaged at the end.

    Attributes:
        widths: channels of each stage.
        depth: convolutions a stage.
        norm: `batch`, `group` (for private training), or `none`.
        dropout: rate after each stage, of whole channels.
    """

    linear: ClassVar[bool] = False
    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(32, 64, 128), min_length=1)
    depth: int = Field(default=2, ge=1)
    norm: Literal["batch", "group", "none"] = "batch"
    dropout: float = Field(default=0.0, ge=0, lt=1)

    def trunk(self) -> torch.nn.Module:
        """`[N, C, H, W]` -> `[N, H]`."""
        from assay.models.convolutional import ConvTrunk

        return ConvTrunk(self.takes(), self.widths, self.depth, self.norm, self.dropout)

    def width(self) -> int:
        """H: channels of the last stage."""
        return self.widths[-1]

    def parameter_count(self) -> int | None:
        """Number of parameters of the trunk, if the number of channels is known."""
        if self.channels is None:
            return None
        inputs, total = self.channels, 0
        for width in self.widths:
            for _ in range(self.depth):
                total += 9 * inputs * width + (width if self.norm == "none" else 2 * width)
                inputs = width
        return total

    def block_count(self) -> int | None:
        """Number of stages."""
        return len(self.widths)
