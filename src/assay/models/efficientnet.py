"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation, for cheap hardware."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

#: (expansion, channels, repeats, stride of the first, kernel) of each stage of EfficientNet-B0
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
STEM, TOP = 32, 1280


def scaled(channels: int, width: float) -> int:
    """Channels times `width`, rounded to a multiple of 8 that is not a tenth less."""
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's `SAME`: with a stride, more at the right and below."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`[N, C, H, W]` -> `[N, D, ceil(H / stride), ceil(W / stride)]`."""
        sides: list[int] = []
        for size, kernel, stride in zip(
            reversed(input.shape[-2:]),
            reversed(self.kernel_size),
            reversed(self.stride),
            strict=True,
        ):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            sides += [total // 2, total - total // 2]
        if any(sides):
            input = functional.pad(input, sides)
        return super().forward(input)


class Unit(nn.Module):
    """`conv`, `norm` and, if asked for, ReLU6."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        relu: bool = True,
    ) -> None:
        super().__init__()
        # symmetric padding is the convolution's own where nothing is strided
        kind, padding = (nn.Conv2d, kernel // 2) if stride == 1 else (SameConv, 0)
        self.conv = kind(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
        self.relu = nn.ReLU6() if relu else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[N, C, H, W]` -> `[N, D, h, w]`."""
        result: torch.Tensor = self.relu(self.norm(self.conv(x)))
        return result


class Block(nn.Module):
    """An inverted residual (Sandler et al. 2018, arXiv 1801.04381): expand, depthwise, project.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        expansion: factor on `inputs` in between.
        kernel: side of the depthwise kernel.
        stride: of the depthwise convolution.
    """

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = Unit(inputs, inner) if expansion > 1 else nn.Identity()
        self.depthwise = Unit(inner, inner, kernel, stride, groups=inner)
        self.project = Unit(inner, outputs, relu=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[N, C, H, W]` -> `[N, D, h, w]`."""
        result: torch.Tensor = self.project(self.depthwise(self.expand(x)))
        return result + x if self.residual else result


class EfficientNetLiteTrunk(nn.Module):
    """`stem`, `blocks.i`, mean over the rest (Tan and Le 2019, arXiv 1905.11946). The last block
    is the 1x1 convolution that widens to 1280 channels.

    Args:
        width: factor on the channels of all blocks (stem and top are not scaled in Lite).
        depth: factor on the repeats of all stages but the first and the last.
    """

    def __init__(self, width: float = 1.0, depth: float = 1.0) -> None:
        super().__init__()
        self.stem = Unit(3, STEM, 3, 2)
        blocks: list[nn.Module] = []
        inputs = STEM
        for i, (expansion, channels, repeats, stride, kernel) in enumerate(STAGES):
            outputs = scaled(channels, width)
            inner_stage = 0 < i < len(STAGES) - 1
            for j in range(math.ceil(repeats * depth) if inner_stage else repeats):
                blocks.append(Block(inputs, outputs, expansion, kernel, 1 if j else stride))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks, Unit(inputs, TOP))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[N, 3, H, W]` -> `[N, 1280]`."""
        result: torch.Tensor = self.blocks(self.stem(x)).mean(dim=(2, 3))
        return result


def renamed(name: str) -> str | None:
    """Our name of a tensor of the published weights of Lite0; None for those of its classifier.

    Args:
        name: there: `_conv_stem.weight`, `_blocks.3._depthwise_conv.weight`, `_blocks.3._bn1.bias`.
    """
    parts = name.split(".")
    if parts[0] == "_fc":
        return None
    if parts[0] != "_blocks":
        outer = {
            "_conv_stem": "stem.conv",
            "_bn0": "stem.norm",
            "_conv_head": "blocks.16.conv",
            "_bn1": "blocks.16.norm",
        }
        return ".".join([outer[parts[0]], *parts[1:]])
    inner = {
        "_expand_conv": "expand.conv",
        "_bn0": "expand.norm",
        "_depthwise_conv": "depthwise.conv",
        "_bn1": "depthwise.norm",
        "_project_conv": "project.conv",
        "_bn2": "project.norm",
    }
    return ".".join(["blocks", parts[1], inner[parts[2]], *parts[3:]])
