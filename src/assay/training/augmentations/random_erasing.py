"""Blot out a rectangle."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from assay.registry import register
from assay.training.augmentation import ImageAugmentation

if TYPE_CHECKING:
    import torch


@register("augmentation", "random_erasing")
class RandomErasing(ImageAugmentation):
    """Fill a rectangle of an image with noise (Zhong et al. 2017, arXiv 1708.04896). A view is its
    image's unit's.

    Attributes:
        p: probability for each image, in [0, 1].
        area: smallest and largest share of the image.
        aspect: largest ratio of the sides; its inverse is the smallest.

    Raises:
        ValueError: the areas are out of order.
    """

    shorthand: ClassVar[str | None] = "p"
    p: float = Field(default=0.5, ge=0, le=1)
    area: tuple[float, float] = (0.02, 0.33)
    aspect: float = Field(default=3.3, ge=1)

    @model_validator(mode="after")
    def _check(self) -> RandomErasing:
        if not 0 < self.area[0] <= self.area[1] < 1:
            raise ValueError("area is [smallest, largest] within (0, 1); put the smaller one first")
        return self

    def images(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """See `ImageAugmentation.images`."""
        import torch

        n, _, height, width = pixels.shape
        draw = torch.rand(5, n, generator=generator)
        share = self.area[0] + draw[0] * (self.area[1] - self.area[0])
        ratio = torch.exp((2 * draw[1] - 1) * math.log(self.aspect))
        # a rectangle that does not fit is cut to the image, so that every image is hit alike
        tall = ((share * ratio).sqrt() * height).round().clamp(1, height)
        wide = ((share / ratio).sqrt() * width).round().clamp(1, width)
        top = (draw[2] * (height - tall + 1)).floor()
        left = (draw[3] * (width - wide + 1)).floor()
        rows, columns = torch.arange(height), torch.arange(width)
        hit = (rows >= top[:, None]) & (rows < (top + tall)[:, None])
        across = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
        blot = hit[:, :, None] & across[:, None, :] & (draw[4] < self.p)[:, None, None]
        if pixels.is_floating_point():
            noise = torch.rand(pixels.shape, generator=generator, dtype=pixels.dtype)
        else:
            noise = torch.randint(0, 256, pixels.shape, generator=generator, dtype=pixels.dtype)
        return torch.where(blot[:, None], noise, pixels)
