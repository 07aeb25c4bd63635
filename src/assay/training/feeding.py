"""Feeding a network from the cached outputs of its frozen prefix."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from assay.training.prefix import Cache, Inputs, Prefix, fill
from assay.training.sources import RowSource
from assay.training.tuning import Kernel

#: (inputs, their rows) -> what is shown instead
View = Callable[[Inputs, torch.Tensor], Inputs]

#: key under which a cached prefix output travels with a batch's inputs
_FED = "__prefix__"


class Feeder:
    """Keeps the prefix in evaluation mode and, where allowed, runs it once for every row.

    Args:
        prefix: the frozen prefix.
        kernel: how the network is computed.
        folder: where large caches go; None keeps them in memory.
        cached: whether caches are used at all.
    """

    def __init__(self, prefix: Prefix, kernel: Kernel, folder: Path | None, cached: bool) -> None:
        self.prefix, self.cached = prefix, cached
        self._kernel, self._folder = kernel, folder
        self._caches: list[Cache] = []

    def feed_source(self, source: RowSource, views: list[View] | None = None) -> None:
        """Run the prefix over all rows of a source; its batches carry the outputs from now on.

        Args:
            source: the rows.
            views: what is shown of each row instead of itself, one cache each; an epoch is fed
                from one of them, in turn.
        """
        encoded = source.encoded
        lengths = encoded.lengths() if encoded.offsets is not None else None
        network = self.prefix.network
        training = network.training
        network.eval()
        caches = []
        for view in views or [lambda inputs, rows: inputs]:

            def seen(rows: torch.Tensor, view: View = view) -> Inputs:
                return view(source.plain_collate(rows), rows)

            with self._kernel.autocast():
                caches.append(fill(self.prefix, seen, lengths, len(encoded), self._folder))
        network.train(training)
        self._caches += caches

        def collate(rows: torch.Tensor) -> Inputs:
            inputs = source.plain_collate(rows)
            longest = max((v.shape[1] for v in inputs.values() if v.dim() > 1), default=None)
            inputs[_FED] = caches[source.epoch % len(caches)].get(rows, longest)
            return inputs

        source.collate = collate

    def unpack(self, inputs: Inputs) -> Inputs:
        """The network's own inputs; a cached output among them is handed to the prefix."""
        if _FED not in inputs:
            return inputs
        own = dict(inputs)
        self.prefix.feed(own.pop(_FED))
        return own

    @contextlib.contextmanager
    def feeding(self) -> Iterator[None]:
        """Within it the prefix is in evaluation mode and, if cached, does not run."""
        self.prefix.freeze()
        if not self.cached:
            yield
            return
        with self.prefix.skipping():
            yield

    def close(self) -> None:
        """Free the caches."""
        for cache in self._caches:
            cache.close()
