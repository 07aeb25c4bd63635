"""A trunk, a pooling and a linear head: the network of every classifier and regressor here."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from assay.errors import UsageError

Pooling = Literal["mean", "cls", "none"]


class Pool(nn.Module):
    """Turn token states `[N, T, H]` into one vector a row `[N, H]`.

    Args:
        kind: `mean` over the attention mask, `cls` for the first token, `none` for trunks that
            give `[N, H]` already.
    """

    def __init__(self, kind: Pooling) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """`states` `[N, T, H]` (or `[N, H]`), `mask` `[N, T]` with 1 for real tokens."""
        if self.kind == "none":
            return states
        if self.kind == "cls":
            return states[:, 0]
        if mask is None:
            return states.mean(dim=1)
        # float32 whatever the autocast dtype: a sum over hundreds of tokens loses bits in bfloat16
        weights = mask.to(torch.float32).unsqueeze(-1)
        return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1.0)

    def extra_repr(self) -> str:
        """The kind."""
        return self.kind


class Headed(nn.Module):
    """`backbone` -> `pool` -> `dropout` -> `head` -> `calibration` (nothing, unless fitted).

    Args:
        backbone: any module; called with the batch's inputs as keywords, it returns a tensor or
            an object with `last_hidden_state`.
        pooling: see `Pool`.
        width: H, the trunk's output width.
        outputs: K, the number of outputs.
        dropout: rate before the head.
    """

    def __init__(
        self, backbone: nn.Module, pooling: Pooling, width: int, outputs: int, dropout: float
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pool = Pool(pooling)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, outputs)
        self.calibration: nn.Module = nn.Identity()

    def forward(self, **inputs: Any) -> torch.Tensor:
        """Outputs `[N, K]`."""
        states = self.backbone(**inputs)
        states = getattr(states, "last_hidden_state", states)
        pooled = self.pool(states, inputs.get("attention_mask"))
        result: torch.Tensor = self.calibration(self.head(self.dropout(pooled)))
        return result


def after_head(network: nn.Module, layer: nn.Module) -> nn.Module:
    """The network with a layer after its head, in place of one that is there.

    Raises:
        UsageError: it has no head of ours.
    """
    if not isinstance(network, Headed):
        raise UsageError(
            "the network has no head to calibrate",
            where="calibrate",
            mend="use a model with a head for classes",
        )
    network.calibration = layer
    return network
