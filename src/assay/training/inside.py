"""What modules inside a teacher give for rows: once for a split where that is small, else at every
step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from assay.errors import UsageError, did_you_mean
from assay.models.predictions import length_batches
from assay.training import teachers
from assay.training.capture import Tensors, capturing
from assay.training.preparing import synthetic
from assay.training.tuning import attention_of, use_attention

if TYPE_CHECKING:
    from assay.data.preprocessing import Encoded
    from assay.models.model import Model
    from assay.training.parts import Call, Setup

#: what is kept of a split at most, in bytes; more is computed again at every step
KEPT = 1 << 28

#: what a module gave -> the tensor that a term compares, `[N, ...]`
Pick = Callable[[Any], torch.Tensor]


@contextlib.contextmanager
def observing(network: nn.Module) -> Iterator[None]:
    """Within it the network is in evaluation mode, computes no gradients, and shows its maps of
    attention; after it all is as before.
    """
    modes = [(module, module.training) for module in network.modules()]
    attention = attention_of(network)
    network.eval()
    if attention not in (None, "eager"):
        use_attention(network, "eager")
    try:
        with torch.no_grad():
            yield
    finally:
        if attention not in (None, "eager"):
            use_attention(network, attention)
        for module, training in modes:
            module.training = training


def outputs_inside(model: Model, stretch: float = 0.5) -> dict[str, Any]:
    """What every module of a model gives for two made-up rows, in the order in which they end."""
    found: dict[str, Any] = {}
    names = [name for name, _ in model.network.named_modules() if name]
    with observing(model.network), capturing(model.network, names, found):
        model.network(**synthetic(model, 2, stretch))
    return found


def check_names(model: Model, names: Mapping[str, Any] | tuple[str, ...], where: str) -> None:
    """Refuse names that no module of a model has.

    Raises:
        UsageError: names the module, and the nearest that there is.
    """
    known = [name for name, _ in model.network.named_modules() if name]
    for name in names:
        if name not in known:
            raise UsageError(
                f"{model.card.name} has no module {name!r}",
                where=where,
                mend=did_you_mean(name, known),
            )


class Inside:
    """What named modules of a teacher give, for the rows of a batch.

    Args:
        teacher: the teacher; it is left as it is.
        names: the modules.
        pick: what of their outputs is compared.
        setup: the stage's set-up.
        same_view: give the teacher the student's very inputs instead of the rows as they are.
        where: the term, for messages.

    Raises:
        UsageError: the teacher cannot share the student's view.
    """

    def __init__(
        self,
        teacher: Model,
        names: tuple[str, ...],
        pick: Pick,
        setup: Setup,
        same_view: bool,
        where: str,
    ) -> None:
        if same_view:
            teachers.same_reading(teacher, setup, f"{where}.same_view")
        self._teacher, self._names, self._pick = teacher, names, pick
        self._dataset, self._same_view = setup.context.dataset, same_view
        self._encoded: dict[str, Encoded] = {}
        self._kept: dict[str, Tensors | None] = {}
        self._seen: tuple[Any, Tensors] | None = None

    def of(self, call: Call) -> Tensors:
        """Module -> what it gives for the batch's rows, `[N, ...]`."""
        if self._same_view:
            inputs = call.batch.inputs
            if self._seen is None or self._seen[0] is not inputs:  # a mixture asks twice
                names = self._teacher.preprocessing.inputs
                self._seen = (inputs, self._compute({name: inputs[name] for name in names}))
            return self._seen[1]
        split = "train" if call.training else "valid"
        kept = self._split(split)
        if kept is not None:
            return {name: value[call.batch.rows] for name, value in kept.items()}
        arrays = self._encoded[split].batch(call.batch.rows.numpy(), pad_to=8)
        return self._compute({name: torch.from_numpy(value) for name, value in arrays.items()})

    def _compute(self, inputs: Tensors) -> Tensors:
        caught: dict[str, Any] = {}
        network = self._teacher.network
        with observing(network), capturing(network, self._names, caught):
            network(**inputs)
        return {name: self._pick(caught[name]).float() for name in self._names}

    def _split(self, split: str) -> Tensors | None:
        """All rows of a split, where they are small and of one shape; else None."""
        if split not in self._kept:
            encoded = self._teacher.preprocessing.encode(self._dataset.rows(split))
            self._encoded[split] = encoded
            one = self._rows(encoded, [0])
            size = 4 * len(encoded) * sum(value.numel() for value in one.values())
            ragged = encoded.offsets is not None and any(v.dim() > 2 for v in one.values())
            self._kept[split] = None if ragged or size > KEPT else self._all(encoded, one)
        return self._kept[split]

    def _rows(self, encoded: Encoded, rows: Any) -> Tensors:
        import numpy as np

        arrays = encoded.batch(np.asarray(rows, dtype=np.int64), pad_to=8)
        return self._compute({name: torch.from_numpy(value) for name, value in arrays.items()})

    def _all(self, encoded: Encoded, one: Tensors) -> Tensors:
        n = len(encoded)
        found = {name: value.new_empty((n, *value.shape[1:])) for name, value in one.items()}
        for rows in length_batches(encoded.lengths(), 64):
            for name, value in self._rows(encoded, rows).items():
                found[name][torch.from_numpy(rows)] = value
        return found
