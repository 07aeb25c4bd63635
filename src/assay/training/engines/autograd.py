"""What an engine is, and the plain one: one backward pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch

from assay.training.flat import Flat


class Engine(Protocol):
    """Computes gradients and nothing else. Every engine equals `Autograd` to 1e-5."""

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


class Autograd:
    """One backward pass for all units together."""

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
