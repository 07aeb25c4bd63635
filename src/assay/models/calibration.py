"""Layers after the head that make its probabilities say how often they are right."""

from __future__ import annotations

import torch
from torch import nn


class Temperature(nn.Module):
    """Divide logits by a number that was fitted: `temperature`, a buffer of one value."""

    temperature: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("temperature", torch.ones(1))

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """`[N, K]` -> `[N, K]`; the order of classes stays."""
        return logits / self.temperature


class Isotonic(nn.Module):
    """A rising, piecewise linear map of each class's probability; then they are made to sum to 1.

    Buffers `x` and `y`, `[K, M]`: the knots, x rising in each row. Of two classes the map of the
    second decides.

    Args:
        classes: K.
        knots: M, >= 2.
    """

    x: torch.Tensor
    y: torch.Tensor

    def __init__(self, classes: int, knots: int) -> None:
        super().__init__()
        line = torch.linspace(0, 1, knots).repeat(classes, 1)
        self.register_buffer("x", line)
        self.register_buffer("y", line.clone())

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits `[N, K]` -> logarithms of calibrated probabilities `[N, K]`."""
        p = torch.softmax(logits, dim=1)
        below = (p.unsqueeze(2) >= self.x.unsqueeze(0)).to(torch.int64).sum(dim=2) - 1
        below = below.clamp(0, self.x.shape[1] - 2)
        place = below.unsqueeze(2)
        x, y = (v.unsqueeze(0).expand(p.shape[0], -1, -1) for v in (self.x, self.y))
        x0, y0 = x.gather(2, place).squeeze(2), y.gather(2, place).squeeze(2)
        x1, y1 = x.gather(2, place + 1).squeeze(2), y.gather(2, place + 1).squeeze(2)
        share = ((p - x0) / (x1 - x0).clamp_min(1e-12)).clamp(0, 1)
        q = y0 + share * (y1 - y0)
        if p.shape[1] == 2:
            q = torch.stack([1 - q[:, 1], q[:, 1]], dim=1)
        # none of the classes may be impossible: the logarithm of zero is no number
        q = q.clamp_min(1e-6)
        return (q / q.sum(dim=1, keepdim=True)).log()
