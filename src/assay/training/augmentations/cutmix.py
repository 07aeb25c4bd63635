"""Paste a part of another image."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from assay.registry import register
from assay.training.augmentation import PIXELS, Augmentation
from assay.training.augmentations._mixing import beta, check_unmixed

if TYPE_CHECKING:
    import torch

    from assay.training.batches import Batch


@register("augmentation", "cutmix")
class CutMix(Augmentation):
    """Put a rectangle of another image of the batch over each one; losses are shared by area (Yun
    et al. 2019, arXiv 1905.04899). One rectangle a batch, its area from Beta(alpha, alpha).

    A view belongs to the unit of the image below, and holds another unit's: it is refused where
    units must stay apart.

    Attributes:
        alpha: of the beta distribution, > 0.
        p: probability for a batch, in [0, 1].
    """

    mixes: ClassVar[bool] = True
    shorthand: ClassVar[str | None] = "alpha"
    alpha: float = Field(default=1.0, gt=0)
    p: float = Field(default=0.5, ge=0, le=1)

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """See `Augmentation.apply`."""
        import torch

        check_unmixed(batch, self.part_name)
        pixels = batch.inputs[PIXELS]
        n, _, height, width = pixels.shape
        wanted, coin = beta(self.alpha, generator), torch.rand(1, generator=generator)
        centre = torch.rand(2, generator=generator)
        partner = torch.randperm(n, generator=generator)
        if float(coin) >= self.p:
            return batch
        side = math.sqrt(1 - wanted)
        top, bottom = _cut(float(centre[0]), side, height)
        left, right = _cut(float(centre[1]), side, width)
        pasted = pixels.clone()
        pasted[:, :, top:bottom, left:right] = pixels[partner, :, top:bottom, left:right]
        # the rectangle is cut off at the edges: what counts is its real area
        share = 1 - (bottom - top) * (right - left) / (height * width)
        return replace(
            batch,
            inputs={**batch.inputs, PIXELS: pasted},
            mixture=(partner, torch.full((n,), share)),
        )


def _cut(centre: float, side: float, size: int) -> tuple[int, int]:
    """Where a stretch of `side * size` around a point begins and ends within `[0, size]`."""
    middle, half = centre * size, side * size / 2
    return max(0, round(middle - half)), min(size, round(middle + half))
