"""Blend pairs of images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from assay.registry import register
from assay.training.augmentation import PIXELS, Augmentation
from assay.training.augmentations._mixing import as_floats, beta, check_unmixed

if TYPE_CHECKING:
    import torch

    from assay.training.batches import Batch


@register("augmentation", "mixup")
class Mixup(Augmentation):
    """`share * image + (1 - share) * another image of the batch`, and the losses likewise (Zhang
    et al. 2017, arXiv 1710.09412); one share a batch, from Beta(alpha, alpha).

    A blend belongs to the unit of its first image, and holds another unit's: it is refused where
    units must stay apart.

    Attributes:
        alpha: of the beta distribution, > 0; small: mostly whole images.
    """

    mixes: ClassVar[bool] = True
    shorthand: ClassVar[str | None] = "alpha"
    alpha: float = Field(default=0.2, gt=0)

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """See `Augmentation.apply`; pixels become float in [0, 1]."""
        import torch

        check_unmixed(batch, self.part_name)
        share = beta(self.alpha, generator)
        partner = torch.randperm(len(batch), generator=generator)
        pixels = as_floats(batch.inputs[PIXELS])
        mixed = pixels * share + pixels[partner] * (1 - share)
        return replace(
            batch,
            inputs={**batch.inputs, PIXELS: mixed},
            mixture=(partner, torch.full((len(batch),), share)),
        )
