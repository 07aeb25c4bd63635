"""What `mixup` and `cutmix` share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.errors import UsageError

if TYPE_CHECKING:
    import torch

    from assay.training.batches import Batch


def check_unmixed(batch: Batch, name: str) -> None:
    """A mixture of mixtures would have more than two targets.

    Raises:
        UsageError: the batch is a mixture already.
    """
    if batch.mixture is not None:
        raise UsageError(
            f"{name} got images that are mixed already",
            where=f"augment.{name}",
            mend="mix once: leave out all but one of mixup and cutmix",
        )


def beta(alpha: float, generator: torch.Generator) -> float:
    """One draw from Beta(alpha, alpha), from torch's generator."""
    import numpy as np
    import torch

    seed = int(torch.randint(0, 2**62, (1,), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def as_floats(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels as float32 in [0, 1]."""
    import torch

    return pixels if pixels.is_floating_point() else pixels.to(torch.float32) / 255.0
