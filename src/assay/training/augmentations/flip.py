"""Mirror images."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from assay.registry import register
from assay.training.augmentation import ImageAugmentation

if TYPE_CHECKING:
    import torch


@register("augmentation", "flip")
class Flip(ImageAugmentation):
    """Swap left and right, each image by a coin of its own. A view is its image's unit's.

    Attributes:
        p: probability, in [0, 1].
    """

    shorthand: ClassVar[str | None] = "p"
    p: float = Field(default=0.5, ge=0, le=1)

    def images(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """See `ImageAugmentation.images`."""
        import torch

        turned = torch.rand(len(pixels), generator=generator) < self.p
        rows = turned.nonzero()[:, 0]
        return pixels.index_copy(0, rows, pixels[rows].flip(3))
