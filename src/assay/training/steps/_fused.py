"""What the optimisers share: buffers as lists of dense tensors, and what adaptive ones break."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.claims import Capabilities

if TYPE_CHECKING:
    import torch

#: of every optimiser that scales coordinates by their own history
ADAPTIVE = Capabilities(
    breaks=frozenset({"sgd_updates"}),
    why={"sgd_updates": "scales each coordinate by its own history"},
    mend={"sgd_updates": "use sgd"},
)


def dense(*buffers: torch.Tensor) -> tuple[list[torch.Tensor], ...]:
    """Each buffer `[C, S]` as a list of contiguous tensors, all buffers cut alike.

    Torch's fused CPU kernels ignore strides: handed a segment of the columns of `[C, P]` they
    would silently update other segments. One client's row of it is contiguous.
    """
    if all(buffer.is_contiguous() for buffer in buffers):
        return tuple([buffer] for buffer in buffers)
    return tuple(list(buffer.unbind(0)) for buffer in buffers)
