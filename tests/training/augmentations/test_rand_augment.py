"""The operations of RandAugment against Pillow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from assay.config import build_part
from assay.training.augmentations import _operations as do
from assay.training.augmentations.rand_augment import OPERATIONS, operated


def picture(channels: int, seed: int = 0) -> tuple[Image.Image, torch.Tensor]:
    """A smooth random picture, as Pillow and as we have it."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((14, 12), Image.Resampling.BICUBIC)
    image = image.convert("L" if channels == 1 else "RGB")
    values = np.asarray(image, dtype=np.float32).reshape(12, 14, channels)
    return image, torch.from_numpy(values.transpose(2, 0, 1)[None].copy())


def same(image: Image.Image, ours: torch.Tensor, apart: int = 0) -> None:
    theirs = np.asarray(image, dtype=np.float32).reshape(*ours.shape[2:], -1).transpose(2, 0, 1)
    assert float(np.abs(theirs - ours[0].numpy()).max()) <= apart


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_as_pillow_without_strength(channels: int, seed: int) -> None:
    image, ours = picture(channels, seed)
    same(ImageOps.equalize(image), do.equalize(ours))
    same(ImageOps.autocontrast(image), do.autocontrast(ours), apart=1)
    for bits in (4, 6, 8):
        same(ImageOps.posterize(image, bits), do.posterize(ours, bits))
    for threshold in (0, 100, 255):
        same(ImageOps.solarize(image, threshold), do.solarize(ours, threshold))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("factor", [0.1, 0.73, 1.0, 1.9])
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (ImageEnhance.Brightness, do.brightness),
        (ImageEnhance.Color, do.color),
        (ImageEnhance.Contrast, do.contrast),
        (ImageEnhance.Sharpness, do.sharpness),
    ],
    ids=lambda f: f.__name__,
)
def test_as_pillow_enhances(
    channels: int, factor: float, theirs: Any, ours: Callable[..., torch.Tensor]
) -> None:
    image, values = picture(channels)
    same(theirs(image).enhance(factor), ours(values, torch.tensor([factor])), apart=1)


def test_constant_pictures_stay() -> None:
    flat = torch.full((2, 1, 6, 6), 77.0)
    assert torch.equal(do.equalize(flat), flat) and torch.equal(do.autocontrast(flat), flat)


def test_pixels_move_where_they_should() -> None:
    image, x = picture(3)
    zero = torch.zeros(1)
    for moved in (do.turn(x, zero), do.shear(x, zero, 0), do.translate(x, zero, 1)):
        assert torch.equal(moved, x)
    right = do.translate(x, torch.tensor([3.0]), 0)
    assert torch.equal(right[..., :-3], x[..., 3:]) and not right[..., -3:].any()
    down = do.translate(x, torch.tensor([-2.0]), 1)
    assert torch.equal(down[:, :, 2:], x[:, :, :-2]) and not down[:, :, :2].any()
    square = x[..., :12]
    assert torch.equal(do.turn(square, torch.tensor([180.0])), square.flip(2, 3))
    same(image.crop((0, 0, 12, 12)).rotate(90), do.turn(square, torch.tensor([90.0])))
    turned = np.asarray(image.rotate(20), dtype=np.float32).transpose(2, 0, 1)
    apart = np.abs(turned - do.turn(x, torch.tensor([20.0]))[0].numpy()).max(0) > 0
    assert apart.mean() < 0.05  # where a pixel lies between two, either may be the nearest


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_strength_changes_nothing_that_has_one(name: str) -> None:
    _, x = picture(3)
    if name in ("autocontrast", "equalize"):
        return
    for sign in (-1.0, 1.0):
        assert torch.equal(operated(name, x, 0.0, torch.tensor([sign])), x)


def test_all_operations_are_drawn() -> None:
    _, x = picture(1)
    part: Any = build_part("augmentation", {"rand_augment": {"n": 1, "magnitude": 20}})
    out = part.images(x.repeat(400, 1, 1, 1).to(torch.uint8), torch.Generator().manual_seed(0))
    distinct = {tuple(image.flatten().tolist()) for image in out}
    assert out.dtype == torch.uint8
    assert len(distinct) >= 14
