"""The backward pass of private steps: it goes by each use and shows it its output's gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from assay.training.bookkeeping.uses import Use
from assay.training.bookkeeping.watch import Watch

Tensor = torch.Tensor
Arrived = Callable[[Use, Tensor], None]

#: what a graph has where a leaf's gradient is added up
_END: Any = type(torch.autograd.graph.get_gradient_edge(torch.zeros((), requires_grad=True)).node)


def leaves(losses: Tensor) -> list[Tensor]:
    """The tensors at which a backward pass from `losses` ends."""
    found: list[Tensor] = []
    seen: set[Any] = set()
    left: list[Any] = [torch.autograd.graph.get_gradient_edge(losses).node]
    while left:
        node: Any = left.pop()
        if type(node) is _END:
            found.append(node.variable)
            continue
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                left.append(following)
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
        place = use.edge.output_nr

        def shown(grads: Sequence[Tensor | None]) -> None:
            grad = grads[place]
            if grad is not None:
                # operations on gradients are none of the watch's business
                with torch._C.DisableTorchFunction():
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
