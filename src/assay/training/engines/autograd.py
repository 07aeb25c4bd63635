"""The plain engine: one backward pass. Every other engine must equal it to 1e-5."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from assay.training.flat import Flat


class Autograd:
    """Adds the gradient of each player's loss to that player's buffer."""

    def backward(self, losses: Mapping[str, torch.Tensor], flats: Mapping[str, Flat]) -> None:
        """Accumulate gradients.

        Args:
            losses: player -> scalar loss.
            flats: player -> its buffers; `grads` is added to.
        """
        if len(losses) == 1:
            ((player, loss),) = losses.items()
            if len(flats) == 1:
                loss.backward()  # type: ignore[no-untyped-call]
                return
        players = list(losses)
        for i, player in enumerate(players):
            flat = flats[player]
            mine = [p for n, p in flat.network.named_parameters() if p.requires_grad]
            torch.autograd.backward(losses[player], inputs=mine, retain_graph=i + 1 < len(players))
