"""Trunks that are written here."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class MLPTrunk(nn.Module):
    """`layers.i` = linear, activation, dropout."""

    def __init__(self, inputs: int, hidden: Sequence[int], activation: str, dropout: float) -> None:
        super().__init__()
        sizes = [inputs, *hidden]
        self.layers = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Linear(a, b),
                    ACTIVATIONS[activation](),
                    *([nn.Dropout(dropout)] if dropout else []),
                )
                for a, b in pairwise(sizes)
            )
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`features` `[N, F]` -> `[N, H]`."""
        result: torch.Tensor = self.layers(features)
        return result
