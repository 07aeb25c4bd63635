"""Convolutional trunks that are written here: `[N, C, H, W]` -> `[N, H]`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

Norm = Literal["batch", "group", "none"]


def norm_of(kind: Norm, channels: int) -> nn.Module:
    """A normalisation over `channels`; groups of 8 channels or more."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(math.gcd(channels, max(1, channels // 8)), channels)
    return nn.Identity()


class ConvNorm(nn.Module):
    """`conv` without bias (with one where nothing normalises), `norm`, and a rectifier.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        kernel: side of the kernel.
        stride: of the convolution.
        norm: see `norm_of`.
        groups: of the convolution.
        relu: whether a rectifier follows.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        stride: int = 1,
        norm: Norm = "batch",
        groups: int = 1,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=norm == "none"
        )
        self.norm = norm_of(norm, outputs)
        self.relu = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[N, C, H, W]` -> `[N, D, h, w]`."""
        result: torch.Tensor = self.relu(self.norm(self.conv(x)))
        return result


class ConvTrunk(nn.Module):
    """`stages.i` = some 3x3 convolutions, halving the image between stages; mean over the rest.

    Args:
        channels: of the images.
        widths: channels of each stage.
        depth: convolutions a stage.
        norm: see `norm_of`.
        dropout: rate after each stage, of whole channels.
    """

    def __init__(
        self, channels: int, widths: Sequence[int], depth: int, norm: Norm, dropout: float
    ) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for i, width in enumerate(widths):
            layers: list[nn.Module] = [nn.MaxPool2d(2, ceil_mode=True)] if i else []
            for _ in range(depth):
                layers.append(ConvNorm(channels, width, norm=norm))
                channels = width
            if dropout:
                layers.append(nn.Dropout2d(dropout))
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[N, C, H, W]` -> `[N, widths[-1]]`."""
        result: torch.Tensor = self.stages(x).mean(dim=(2, 3))
        return result


class AlexNetTrunk(nn.Module):
    """Five convolutions, three poolings, two dense layers (Krizhevsky 2014, arXiv 1404.5997).

    Args:
        channels: of the images.
        small: for images of about 32 pixels: the first convolution is 3x3 with stride 1 instead
            of 11x11 with stride 4.
        width: channels of the first convolution; the others keep their proportion.
        hidden: width of the dense layers.
        grid: side to which the last maps are averaged before the dense layers.
        dropout: rate before each dense layer.
    """

    def __init__(
        self, channels: int, small: bool, width: int, hidden: int, grid: int, dropout: float
    ) -> None:
        super().__init__()
        sizes = [width, 3 * width, 6 * width, 4 * width, 4 * width]
        first = (
            nn.Conv2d(channels, sizes[0], 3, padding=1)
            if small
            else nn.Conv2d(channels, sizes[0], 11, stride=4, padding=2)
        )
        kernels = [3 if small else 5, 3, 3, 3]
        convs = [first] + [
            nn.Conv2d(a, b, k, padding=k // 2)
            for a, b, k in zip(sizes, sizes[1:], kernels, strict=False)
        ]
        pooled = {0, 1, 4}
        self.features = nn.Sequential(
            *(
                nn.Sequential(
                    conv,
                    nn.ReLU(),
                    *([nn.MaxPool2d(2 if small else 3, 2, ceil_mode=True)] if i in pooled else []),
                )
                for i, conv in enumerate(convs)
            )
        )
        self.grid = nn.AdaptiveAvgPool2d(grid)
        flat = sizes[-1] * grid * grid
        self.dense = nn.Sequential(
            *(
                nn.Sequential(nn.Dropout(dropout), nn.Linear(a, hidden), nn.ReLU())
                for a in (flat, hidden)
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[N, C, H, W]` -> `[N, hidden]`."""
        result: torch.Tensor = self.dense(torch.flatten(self.grid(self.features(x)), 1))
        return result


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2015, arXiv 1512.03385).

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        stride: of the first convolution.
        norm: see `norm_of`.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs, 3, stride, norm)
        self.second = ConvNorm(outputs, outputs, 3, 1, norm, relu=False)
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity() if same else ConvNorm(inputs, outputs, 1, stride, norm, relu=False)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[N, C, H, W]` -> `[N, D, h, w]`."""
        return functional.relu(self.second(self.first(x)) + self.shortcut(x))


class ResNetTrunk(nn.Module):
    """`stem`, `blocks.i`, mean over the rest.

    Args:
        channels: of the images.
        depths: blocks of each stage.
        width: channels of the first stage; each further one has twice as many.
        small: a 3x3 stem without pooling, for images of about 32 pixels; the stock stem is 7x7
            with stride 2 and a pooling.
        norm: see `norm_of`.
    """

    def __init__(
        self, channels: int, depths: Sequence[int], width: int, small: bool, norm: Norm
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            ConvNorm(channels, width, 3 if small else 7, 1 if small else 2, norm),
            nn.Identity() if small else nn.MaxPool2d(3, 2, 1),
        )
        blocks: list[nn.Module] = []
        inputs = width
        for stage, depth in enumerate(depths):
            outputs = width * 2**stage
            for i in range(depth):
                blocks.append(BasicBlock(inputs, outputs, 2 if stage and not i else 1, norm))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[N, C, H, W]` -> `[N, width * 2^(stages - 1)]`."""
        result: torch.Tensor = self.blocks(self.stem(x)).mean(dim=(2, 3))
        return result
