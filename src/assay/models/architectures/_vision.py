"""What the architectures that read images share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field

from assay.models.architecture import Architecture

if TYPE_CHECKING:
    import torch


class Vision(Architecture):
    """An architecture that reads images.

    Attributes:
        resolution: side in pixels to which the network itself scales images; None takes them as
            they are stored.
        mean: subtracted from pixel values in [0, 1]: one for all channels, or one a channel.
        std: divided by, likewise, above zero.
        channels: 1 for grey, 3 for colours (found from the data).
        size: height and width at which images are stored (found from the data).
    """

    modality: ClassVar[str] = "image"
    #: channels that the trunk takes, where that is fixed
    trunk_channels: ClassVar[int | None] = None
    #: the name under which the trunk takes its images
    keyword: ClassVar[str | None] = None

    resolution: int | None = Field(default=None, ge=1, le=4096)
    mean: tuple[float, ...] = Field(default=(0.5,), min_length=1, max_length=3)
    std: tuple[float, ...] = Field(default=(0.5,), min_length=1, max_length=3)
    channels: int | None = Field(default=None, ge=1, le=3)
    size: tuple[int, int] | None = None

    def fitted(self, preprocessing: Any) -> Self:
        """See `Architecture.fitted`."""
        height, width, channels = (
            preprocessing.height,
            preprocessing.width,
            preprocessing.channels,
        )
        return self.model_copy(update={"size": (height, width), "channels": channels})

    def takes(self) -> int:
        """Channels that the trunk takes."""
        return self.trunk_channels or self.channels or 1

    def seen(self) -> tuple[int, int]:
        """Height and width that the trunk sees; 32 where nothing is said yet."""
        if self.resolution is not None:
            return self.resolution, self.resolution
        return self.size or (32, 32)

    def build(self) -> torch.nn.Module:
        """The trunk behind its pixels: `pixels` `[N, C, H, W]` -> `[N, H]` or `[N, T, H]`."""
        from assay.models.pixels import ImageTrunk, PixelInput

        resolution = (self.resolution, self.resolution) if self.resolution is not None else None
        pixels = PixelInput(self.takes(), self.mean, self.std, resolution)
        return ImageTrunk(pixels, self.trunk(), self.keyword)

    def trunk(self) -> torch.nn.Module:
        """The network behind the pixels."""
        raise TypeError(f"{type(self).__name__} builds nothing")
