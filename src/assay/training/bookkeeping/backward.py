"""The backward pass of private steps: it goes by each use and shows it its output's gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from assay.training.bookkeeping.uses import Use
from assay.training.bookkeeping.watch import Watch

Tensor = torch.Tensor
Arrived = Callable[[Use, Tensor], None]


def leaves(losses: Tensor) -> list[Tensor]:
    """The tensors at which a backward pass from `losses` ends."""
    found: list[Tensor] = []
    seen: set[object] = set()
    left = [losses.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if type(node).__name__ == "AccumulateGrad" and leaf is not None:
            found.append(leaf)
        else:
            left.extend(following for following, _ in node.next_functions)
    return found


def pass_back(
    losses: Tensor, watch: Watch, uses: Sequence[Use], arrived: Arrived, keep: bool
) -> set[int]:
    """One backward pass; nothing is added to any gradient.

    Args:
        losses: which are summed; require a gradient.
        watch: that saw the forward pass.
        uses: to be shown their gradients.
        arrived: is given a use and the gradient of its output, as soon as that is there; the tensor
            may be kept, and not be written to.
        keep: keep the graph.

    Returns:
        Identities of the leaves that were given a gradient.
    """

    def show(use: Use) -> Callable[[Sequence[Tensor | None]], None]:
        def shown(grads: Sequence[Tensor | None]) -> None:
            grad = grads[use.edge.output_nr]
            if grad is not None:
                # operations on gradients are none of the watch's business
                with torch.no_grad(), torch._C.DisableTorchFunction():
                    arrived(use, grad)

        return shown

    # all of them, so that the pass goes by every use that the losses reach
    ends = leaves(losses)
    handles = [use.edge.node.register_prehook(show(use)) for use in uses]
    try:
        grads = watch.grad(losses, ends, keep=keep)
    finally:
        for handle in handles:
            handle.remove()
    return {id(leaf) for leaf, grad in zip(ends, grads, strict=True) if grad is not None}
