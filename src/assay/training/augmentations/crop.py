"""Shift images."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from assay.registry import register
from assay.training.augmentation import ImageAugmentation

if TYPE_CHECKING:
    import torch


@register("augmentation", "crop")
class Crop(ImageAugmentation):
    """Pad each image and cut a window of its old size out at random. A view is its image's unit's.

    Attributes:
        padding: pixels on each side, >= 0.
        fill: what the padding holds: `reflect` (the image mirrored, again and again where
            the padding is wider than the image) or `zero`.
    """

    shorthand: ClassVar[str | None] = "padding"
    padding: int = Field(default=4, ge=0, le=512)
    fill: Literal["zero", "reflect"] = "zero"

    def images(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """See `ImageAugmentation.images`."""
        import torch

        if self.padding == 0:
            return pixels
        n, _, height, width = pixels.shape
        offsets = torch.randint(0, 2 * self.padding + 1, (2, n), generator=generator)
        around = (self.padding,) * 4
        if self.fill == "zero":
            padded = torch.nn.functional.pad(pixels, around)
        else:
            padded = pixels[:, :, _mirrored(height, self.padding)]
            padded = padded[:, :, :, _mirrored(width, self.padding)]
        # a view of all windows: only the chosen ones are copied, row by row
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        return windows[torch.arange(n), :, offsets[0], offsets[1]]


def _mirrored(size: int, padding: int) -> torch.Tensor:
    """Indices of a padded axis, mirrored at its edges (the edge itself is not repeated)."""
    import torch

    index = torch.arange(-padding, size + padding)
    if size == 1:
        return index * 0
    index = index.abs() % (2 * size - 2)
    return (size - 1) - (size - 1 - index).abs()
