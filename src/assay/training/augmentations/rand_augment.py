"""Random operations of one strength."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from assay.registry import register
from assay.training.augmentation import ImageAugmentation

if TYPE_CHECKING:
    import torch

OPERATIONS = (
    "identity",
    "autocontrast",
    "equalize",
    "rotate",
    "solarize",
    "color",
    "posterize",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
#: strengths run from 0 to this
STRONGEST = 30


@register("augmentation", "rand_augment")
class RandAugment(ImageAugmentation):
    """Apply `n` operations to each image, drawn from the paper's fourteen, all of one strength
    (Cubuk et al. 2019, arXiv 1909.13719). A view is its image's unit's.

    At the greatest strength: rotations by 30 degrees, shears of 0.3, shifts by 45% of the image,
    colours, contrast, brightness and sharpness changed by 0.9, 4 bits kept, all values inverted.
    Where an operation has a direction it is drawn too. Pixels in between take the nearest one's
    value; what comes from outside is black.

    Attributes:
        n: operations an image, >= 0.
        magnitude: strength, in 0..30.
    """

    n: int = Field(default=2, ge=0, le=14)
    magnitude: int = Field(default=9, ge=0, le=STRONGEST)

    def images(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """See `ImageAugmentation.images`."""
        import torch

        floats = pixels.is_floating_point()
        x = (pixels * 255).round() if floats else pixels.to(torch.float32)
        for _ in range(self.n):
            chosen = torch.randint(0, len(OPERATIONS), (len(x),), generator=generator)
            sign = torch.randint(0, 2, (len(x),), generator=generator) * 2.0 - 1.0
            out = x.clone()
            for number, name in enumerate(OPERATIONS):
                rows = (chosen == number).nonzero()[:, 0]
                if len(rows):
                    out[rows] = operated(name, x[rows], self.magnitude / STRONGEST, sign[rows])
            x = out
        return (x / 255).to(pixels.dtype) if floats else x.to(torch.uint8)


def operated(name: str, x: torch.Tensor, strength: float, sign: torch.Tensor) -> torch.Tensor:
    """Images `[N, C, H, W]` (0 to 255) after one operation.

    Args:
        name: one of `OPERATIONS`.
        x: the images.
        strength: in [0, 1].
        sign: direction of each image's, -1 or 1, `[N]`.
    """
    from assay.training.augmentations import _operations as do

    if name == "identity":
        return x
    if name in ("autocontrast", "equalize"):
        stretched: torch.Tensor = getattr(do, name)(x)
        return stretched
    if name in ("color", "contrast", "brightness", "sharpness"):
        blended: torch.Tensor = getattr(do, name)(x, 1 + 0.9 * strength * sign)
        return blended
    if name == "rotate":
        return do.turn(x, 30.0 * strength * sign)
    if name == "posterize":
        return do.posterize(x, 8 - round(4 * strength))
    if name == "solarize":
        # one above the largest value at no strength: nothing is inverted then
        return do.solarize(x, 256.0 * (1 - strength))
    axis = 0 if name.endswith("_x") else 1
    if name.startswith("shear"):
        return do.shear(x, 0.3 * strength * sign, axis)
    return do.translate(x, 0.45 * strength * x.shape[3 - axis] * sign, axis)
