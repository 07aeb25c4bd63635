"""What every augmentation is: a frozen config that turns a batch into another, by a generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from assay.claims import Capabilities, PlanContext
from assay.config import Config

if TYPE_CHECKING:
    import torch

    from assay.training.batches import Batch

#: the input that augmentations of images change
PIXELS = "pixels"


class Augmentation(Config):
    """Another view of the same images, in training only. Registered as kind `augmentation`.

    Images are `batch.inputs["pixels"]`, `[N, C, H, W]`, uint8 in 0..255 or float in [0, 1]. What
    is drawn comes from the generator alone, so that a resumed run draws the same. A view belongs
    to the privacy unit of the image it was made of.
    """

    #: rows of different units are mixed
    mixes: ClassVar[bool] = False
    #: each image is changed by itself: its views can be drawn once and cached
    single: ClassVar[bool] = False

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls()]

    def capabilities(self, context: PlanContext) -> Capabilities:
        """It needs images, and new views in every epoch cannot come from a cache."""
        mixing = {"row_independence", "one_mixture"} if self.mixes else set()
        return Capabilities(
            needs=frozenset({"pixel_inputs"} | (mixing & {"one_mixture"})),
            breaks=frozenset({"prefix_cache"} | mixing),
            why={
                "pixel_inputs": "the inputs are images",
                "prefix_cache": "shows other views of an image in every epoch",
                "row_independence": "mixes images of different rows",
                "one_mixture": "mixes images of two rows",
            },
            mend={
                "pixel_inputs": "leave out 'augment', or use image data",
                "row_independence": "leave it out, or use augmentations of single images",
                "one_mixture": "keep one of them",
            },
        )

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with other views; the given one is not changed."""
        raise TypeError(f"{type(self).__name__} changes nothing")


class ImageAugmentation(Augmentation):
    """An augmentation that changes each image by itself; subclasses say how in `images`."""

    single: ClassVar[bool] = True

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """See `Augmentation.apply`."""
        from dataclasses import replace

        pixels = self.images(batch.inputs[PIXELS], generator)
        return replace(batch, inputs={**batch.inputs, PIXELS: pixels})

    def images(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """`[N, C, H, W]` -> the same shape and type."""
        raise TypeError(f"{type(self).__name__} changes nothing")
