"""The operations of RandAugment on batches of images. Needs torch.

Every function takes and gives float32 `[N, C, H, W]` of whole grey values 0 to 255, and computes
what the operation of that name in Pillow computes.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def _whole(x: torch.Tensor) -> torch.Tensor:
    """Values cut to 0..255 and to whole numbers, as bytes hold them."""
    return x.clamp(0, 255).trunc()


def _grey(x: torch.Tensor) -> torch.Tensor:
    """ITU-R 601 luma of colours `[N, 1, H, W]`, as Pillow rounds it."""
    if x.shape[1] == 1:
        return x
    weights = x.new_tensor([19595.0, 38470.0, 7471.0]).view(1, 3, 1, 1)
    return ((x * weights).sum(1, keepdim=True) + 32768).div(65536).floor()


def _blend(base: torch.Tensor, x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return _whole(base + (x - base) * factor.view(-1, 1, 1, 1))


def brightness(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Towards black (0), unchanged (1), brighter (2); `factor` `[N]`."""
    return _blend(torch.zeros_like(x), x, factor)


def color(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Towards grey (0), unchanged (1), more colourful (2); `factor` `[N]`."""
    return _blend(_grey(x).expand_as(x), x, factor)


def contrast(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Towards its mean grey (0), unchanged (1), stronger (2); `factor` `[N]`."""
    mean = (_grey(x).mean(dim=(1, 2, 3), keepdim=True) + 0.5).floor()
    return _blend(mean.expand_as(x), x, factor)


def sharpness(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Smoothed (0), unchanged (1), sharper (2); the edge stays as it is; `factor` `[N]`."""
    channels = x.shape[1]
    kernel = x.new_ones(3, 3)
    kernel[1, 1] = 5
    weight = (kernel / 13).expand(channels, 1, 3, 3)
    smooth = x.clone()
    inner = functional.conv2d(x, weight, groups=channels)
    smooth[:, :, 1:-1, 1:-1] = (inner + 0.5).floor().clamp(0, 255)
    return _blend(smooth, x, factor)


def posterize(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Keep the highest `bits` of each value."""
    return torch.bitwise_and(x.to(torch.uint8), 256 - 2 ** (8 - bits)).to(x.dtype)


def solarize(x: torch.Tensor, threshold: float) -> torch.Tensor:
    """Invert values at or above the threshold."""
    return torch.where(x >= threshold, 255 - x, x)


def autocontrast(x: torch.Tensor) -> torch.Tensor:
    """Stretch each channel over 0..255; one of a single value stays."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    scale = 255.0 / (high - low).clamp_min(1)
    return torch.where(high > low, _whole(x * scale - low * scale), x)


def equalize(x: torch.Tensor) -> torch.Tensor:
    """Flatten the histogram of each channel."""
    n, channels, height, width = x.shape
    flat = x.reshape(n * channels, -1).to(torch.int64)
    counts = torch.zeros(n * channels, 256, dtype=torch.int64)
    counts.scatter_add_(1, flat, torch.ones_like(flat))
    last = 255 - (counts.flip(1) > 0).to(torch.int64).argmax(1)
    step = (height * width - counts.gather(1, last[:, None])) // 255
    before = counts.cumsum(1) - counts
    table = ((before + step // 2) // step.clamp_min(1)).clamp(max=255)
    out = torch.where(step > 0, table.gather(1, flat), flat)
    return out.view_as(x).to(x.dtype)


def affine(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Move pixels: `matrix` `[N, 2, 3]` takes output pixels (x, y, 1), counted from the centre, to
    input pixels. The nearest pixel is taken; beyond the image all is black.
    """
    n, _, height, width = x.shape
    scale = x.new_tensor([width / 2, height / 2])
    # grid_sample counts from -1 to 1 over the image
    theta = matrix.clone()
    theta[:, :, :2] = matrix[:, :, :2] * scale.view(1, 1, 2) / scale.view(1, 2, 1)
    theta[:, :, 2] = matrix[:, :, 2] / scale
    grid = functional.affine_grid(theta, [n, x.shape[1], height, width], align_corners=False)
    return functional.grid_sample(x, grid, mode="nearest", align_corners=False)


def turn(x: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """Rotate anticlockwise by `degrees` `[N]`."""
    angle = torch.deg2rad(degrees)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return affine(x, torch.stack([cos, -sin, zero, sin, cos, zero], 1).view(-1, 2, 3))


def shear(x: torch.Tensor, amount: torch.Tensor, axis: int) -> torch.Tensor:
    """Shear along x (axis 0) or y (axis 1) by `amount` `[N]` pixels a pixel."""
    one, zero = torch.ones_like(amount), torch.zeros_like(amount)
    right, down = (amount, zero) if axis == 0 else (zero, amount)
    return affine(x, torch.stack([one, right, zero, down, one, zero], 1).view(-1, 2, 3))


def translate(x: torch.Tensor, pixels: torch.Tensor, axis: int) -> torch.Tensor:
    """Show what lies `pixels` `[N]` (whole ones) further along x (axis 0) or y (axis 1)."""
    one, zero, shift = torch.ones_like(pixels), torch.zeros_like(pixels), pixels.trunc()
    right, down = (shift, zero) if axis == 0 else (zero, shift)
    return affine(x, torch.stack([one, zero, right, zero, one, down], 1).view(-1, 2, 3))
