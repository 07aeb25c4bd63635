"""What stands between pixels and a trunk: scaling, colours, normalising. Part of the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional


class PixelInput(nn.Module):
    """Pixels as they are stored, turned into what the trunk was made for.

    It belongs to the network: a cache of pixels stays small, an exported graph holds it, and an
    attack works on what a camera gives.

    Args:
        channels: of the trunk; grey pixels are repeated where it wants three, colours are
            weighed into grey (ITU-R 601) where it wants one.
        mean: subtracted from values in [0, 1], one a channel, or one for all.
        std: divided by, likewise.
        resolution: height and width that the trunk sees; None for those of the pixels.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        channels: int,
        mean: Sequence[float],
        std: Sequence[float],
        resolution: tuple[int, int] | None,
    ) -> None:
        super().__init__()
        self.channels, self.resolution = channels, resolution
        # what they are stands in the architecture's settings, not among the weights
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """`pixels` `[N, C, H, W]`, uint8 in 0..255 or float in [0, 1] -> `[N, channels, h, w]`."""
        x = pixels if pixels.is_floating_point() else pixels.to(torch.float32) / 255.0
        if x.shape[1] == 3 and self.channels == 1:
            x = (x * x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
        x = x.expand(-1, self.channels, -1, -1)
        x = (x - self.mean) / self.std
        if self.resolution is not None and tuple(x.shape[-2:]) != self.resolution:
            x = functional.interpolate(
                x, size=self.resolution, mode="bilinear", align_corners=False
            )
        if not self.training:
            # convolutions follow the layout of what they are given; without gradients channels
            # last is about twice as fast, while training's layout is chosen by timing
            x = x.contiguous(memory_format=torch.channels_last)
        return x

    def extra_repr(self) -> str:
        """Channels and resolution."""
        return f"channels={self.channels}, resolution={self.resolution}"


class ImageTrunk(nn.Module):
    """`input` (pixels) -> `net` (the trunk).

    Args:
        input: from stored pixels to the trunk's own.
        net: gives `[N, H]`, or an object with `last_hidden_state` `[N, T, H]`.
        keyword: the name under which `net` takes its images; None for by position.
    """

    def __init__(self, input: PixelInput, net: nn.Module, keyword: str | None = None) -> None:
        super().__init__()
        self.input, self.net, self.keyword = input, net, keyword

    def forward(self, pixels: torch.Tensor) -> Any:
        """`pixels` `[N, C, H, W]` -> what the trunk gives; maps `[N, H, h, w]` are averaged."""
        x = self.input(pixels)
        out = self.net(x) if self.keyword is None else self.net(**{self.keyword: x})
        out = getattr(out, "last_hidden_state", out)
        return out.mean(dim=(2, 3)) if out.dim() == 4 else out
