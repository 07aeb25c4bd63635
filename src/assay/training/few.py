"""A stage run anew on few rows: enough steps, and norms that know what they have seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from assay.data.dataset import Dataset
    from assay.models.model import Model
    from assay.training.context import RunContext

#: rows of a batch on which statistics are taken
_BATCH = 256


def run_on_few(stage: Any, model: Model, context: RunContext, min_steps: int) -> Model:
    """Run a stage; with `min_steps` for so long at least, and with settled norms.

    Args:
        stage: as the recipe has it.
        model: what comes in; it is not changed.
        context: data, seed.
        min_steps: see `assay.stages.base.Stage.lasting`; 0 runs the stage as it is.
    """
    if not min_steps:
        return stage.run(model, context)  # type: ignore[no-any-return]
    after: Model = stage.lasting(min_steps, context.dataset.size("train")).run(model, context)
    settle(model, after, context.dataset)
    return after


def settle(before: Model, after: Model, data: Dataset) -> None:
    """Recompute, in place, the running statistics of the batch norms that a training moved.

    A running average with a small momentum needs hundreds of steps to forget where it began: a
    network trained from scratch for fewer is right about its batches and wrong as soon as it is
    evaluated. The plain average over the training rows has no such lag (Precise BatchNorm: Wu and
    Johnson 2021, arXiv 2105.07576).

    Args:
        before: the model before the training.
        after: the model after it.
        data: its `train` rows are run through the network, without gradients or dropout.
    """
    import numpy as np
    import torch

    norms = _moved(before.network, after.network)
    if not norms or data.size("train") < 2:
        return
    encoded = after.preprocessing.encode(data.rows("train"))
    momenta = [norm.momentum for norm in norms]
    after.network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
        norm.train()
    count = data.size("train")
    with torch.no_grad():
        # batches of nearly one size, so that every row weighs nearly the same
        for rows in np.array_split(np.arange(count), -(-count // _BATCH)):
            batch = encoded.batch(rows)
            after.network(**{name: torch.from_numpy(value) for name, value in batch.items()})
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    after.network.eval()


def _moved(before: nn.Module, after: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """The norms whose running statistics are not what they were, or that were not there."""
    import torch
    from torch import nn

    known = dict(before.named_modules())
    found = []
    for name, norm in after.named_modules():
        if not isinstance(norm, nn.modules.batchnorm._BatchNorm) or norm.running_mean is None:
            continue
        old = getattr(known.get(name), "running_mean", None)
        if old is None or not torch.equal(old, norm.running_mean):
            found.append(norm)
    return found
