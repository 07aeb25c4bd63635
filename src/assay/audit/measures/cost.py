"""What a network costs on disk and in arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from assay.errors import LoadError

if TYPE_CHECKING:
    import torch

    from assay.data.dataset import Dataset
    from assay.data.preprocessing import Encoded
    from assay.models.model import Model


@dataclass(frozen=True)
class Counts:
    """Numbers in the parameters of a network.

    Attributes:
        parameters: all of them (a tied one once).
        nonzero: those that are not exactly zero.
        masked: those that have a mask.
        masked_zeros: those that their mask keeps at exactly zero. A weight that merely happens to
            be zero, as biases are before training, is not among them.
    """

    parameters: int
    nonzero: int
    masked: int
    masked_zeros: int

    @property
    def zeros(self) -> float:
        """Share of all parameters that masks keep at exactly zero."""
        return self.masked_zeros / self.parameters if self.parameters else 0.0


def counts(network: torch.nn.Module) -> Counts:
    """Count parameters; a mask is a buffer named `<parameter>__mask` beside its parameter."""
    buffers = dict(network.named_buffers())
    total = nonzero = masked = masked_zeros = 0
    for name, parameter in network.named_parameters():
        total += parameter.numel()
        nonzero += int(parameter.count_nonzero())
        mask = buffers.get(f"{name}__mask")
        if mask is not None:
            masked += parameter.numel()
            masked_zeros += int((~mask & (parameter == 0)).sum())
    return Counts(total, nonzero, masked, masked_zeros)


def bytes_on_disk(model: Model) -> int:
    """Exact size of `model.safetensors` as `Model.save` writes it."""
    from assay.models.weights import encode_weights

    return len(encode_weights(model.network.state_dict()))


def encoded_rows(model: Model, data: Dataset, split: str) -> Encoded:
    """The rows of a split as the network takes them.

    Raises:
        LoadError: the split has no rows.
    """
    if split not in data.splits or not data.size(split):
        raise LoadError(
            f"the split {split!r} has no rows to time",
            where=f"data {data.card.name}",
            mend="one of: " + ", ".join(s for s in data.splits if data.size(s)),
        )
    return model.preprocessing.encode(data.rows(split))


def batch_of(rows: Encoded, size: int) -> dict[str, npt.NDArray[Any]]:
    """The `size` rows whose length is nearest to the median one; repeated where they are fewer."""
    lengths = rows.lengths()
    middle = np.sort(lengths)[len(lengths) // 2]
    order = np.argsort(np.abs(lengths - middle), kind="stable")
    return rows.batch(np.resize(order, size).astype(np.int64))


def one_example(rows: Encoded) -> dict[str, torch.Tensor]:
    """The row of median length, as tensors."""
    import torch

    return {name: torch.from_numpy(array) for name, array in batch_of(rows, 1).items()}


def macs(network: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> int:
    """Multiply-accumulates of one forward pass, as torch counts them.

    `torch.utils.flop_counter` counts matrix products, convolutions and attention, two operations
    a multiply-accumulate, and nothing else (no norms, activations, embeddings).
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    training = network.training
    network.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(**inputs)
    finally:
        network.train(training)
    return int(counter.get_total_flops()) // 2
