"""What an engine is, and the plain one: one backward pass."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch

from assay.training.batches import Batch
from assay.training.flat import Flat


class Engine(Protocol):
    """Computes gradients and nothing else. Every engine equals `Autograd` to 1e-5, before whatever
    a private one does to bound and hide the part that each unit has in them.

    In each step: `begin`; for each micro-batch the objective within `watching`, then `backward`;
    `finish`. `facts` at the end.
    """

    def secret(self) -> int | None:
        """What the steps' own chance (dropout, augmentations) follows from; None: the run's seed.

        Which draw a unit gets depends on who else is in its batch, so under privacy it must not be
        known.
        """
        ...

    def begin(self, step: int, flats: Mapping[str, Flat]) -> None:
        """A step begins; gradients are nought."""
        ...

    def watching(self, batch: Batch) -> AbstractContextManager[None]:
        """Within it, the losses of a micro-batch are computed."""
        ...

    def backward(
        self, losses: Mapping[str, torch.Tensor], rows: int, flats: Mapping[str, Flat]
    ) -> dict[str, torch.Tensor]:
        """Add to each player's `grads` the gradient of its losses, summed and divided by `rows`.

        Args:
            losses: player -> losses of privacy units `[U]`.
            rows: rows of the whole logical batch.
            flats: player -> its buffers.

        Returns:
            Player -> the scalar whose gradient was added, detached.
        """
        ...

    def finish(self, flats: Mapping[str, Flat]) -> dict[str, float]:
        """All micro-batches are there: complete the gradients; returns scalars to log."""
        ...

    def facts(self, steps: int) -> dict[str, Any]:
        """What the stage's record should hold, after so many steps."""
        ...


class Autograd:
    """One backward pass for all units together."""

    def secret(self) -> int | None:
        """See `Engine.secret`."""
        return None

    def begin(self, step: int, flats: Mapping[str, Flat]) -> None:
        """See `Engine.begin`."""

    def watching(self, batch: Batch) -> AbstractContextManager[None]:
        """See `Engine.watching`."""
        return nullcontext()

    def finish(self, flats: Mapping[str, Flat]) -> dict[str, float]:
        """See `Engine.finish`."""
        return {}

    def facts(self, steps: int) -> dict[str, Any]:
        """See `Engine.facts`."""
        return {}

    def backward(
        self, losses: Mapping[str, torch.Tensor], rows: int, flats: Mapping[str, Flat]
    ) -> dict[str, torch.Tensor]:
        """See `Engine.backward`."""
        means = {player: units.sum() / rows for player, units in losses.items()}
        if len(flats) == 1:
            for mean in means.values():
                mean.backward()  # type: ignore[no-untyped-call]
        else:
            self._each_its_own(means, flats)
        return {player: mean.detach() for player, mean in means.items()}

    @staticmethod
    def _each_its_own(means: Mapping[str, torch.Tensor], flats: Mapping[str, Flat]) -> None:
        """A player's loss moves that player alone, whatever other networks it went through."""
        players = list(means)
        for i, player in enumerate(players):
            mine = [p for _, p in flats[player].network.named_parameters() if p.requires_grad]
            last = i + 1 == len(players)
            torch.autograd.backward(means[player], inputs=mine, retain_graph=not last)
