"""Moving parameters as one flat buffer `[C, P]`, so that every step is a function of one tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Segment:
    """A run of parameters with equal rate and decay.

    Attributes:
        start: first coordinate.
        stop: one past the last.
        rate: factor on the optimiser's rate.
        decays: whether weight decay applies.
    """

    start: int
    stop: int
    rate: float
    decays: bool


class Flat:
    """The moving parameters of one player, re-laid as views of a flat float32 buffer.

    While it is `attached`, each parameter of the network *is* a slice of `params[0]` and its
    gradient a slice of `grads[0]`: an update of the buffer is an update of the network, with no
    copying. `detach` gives every parameter its own memory again.

    Attributes:
        names: parameter names in buffer order.
        params: `[1, P]`.
        grads: `[1, P]`.
        segments: runs of equal rate and decay, which cover the buffer.
        support: `[P]` bool, where parameters may be non-zero; None for everywhere.
    """

    def __init__(
        self,
        network: nn.Module,
        names: Sequence[str],
        rate_of: Callable[[str], tuple[float, bool]],
        support: dict[str, torch.Tensor] | None = None,
        channels_last: bool = False,
    ) -> None:
        """Attach to the parameters `names` of `network` (at least one).

        Args:
            network: the player's network.
            names: which parameters move.
            rate_of: name -> (factor on the rate, whether it decays).
            support: name -> bool mask of its shape.
            channels_last: lay convolution weights out with channels last.
        """
        self.network = network
        moving = set(names)
        table = {n: p for n, p in network.named_parameters() if n in moving}
        if not table or len(table) != len(moving):
            missing = sorted(moving - set(table))
            raise ValueError(f"no such parameters: {missing[:3]}" if missing else "nothing moves")
        settings = {name: rate_of(name) for name in table}
        # runs of equal settings must be contiguous; sorting is stable, so the order is reproducible
        self.names = sorted(table, key=lambda n: settings[n])
        size = sum(p.numel() for p in table.values())
        self.params = torch.empty(1, size)
        self.grads = torch.zeros(1, size)
        self._slices: dict[str, tuple[int, int]] = {}
        self.segments: list[Segment] = []
        start = 0
        for name in self.names:
            parameter = table[name]
            stop = start + parameter.numel()
            self._slices[name] = (start, stop)
            rate, decays = settings[name]
            last = self.segments[-1] if self.segments else None
            if last is not None and (last.rate, last.decays) == (rate, decays):
                self.segments[-1] = Segment(last.start, stop, rate, decays)
            else:
                self.segments.append(Segment(start, stop, rate, decays))
            self._attach(parameter, start, stop, channels_last)
            start = stop
        self.support = self._support(support or {})
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in moving)
        self.mask_()

    @property
    def size(self) -> int:
        """P."""
        return self.params.shape[1]

    def _attach(self, parameter: nn.Parameter, start: int, stop: int, channels_last: bool) -> None:
        def view(buffer: torch.Tensor) -> torch.Tensor:
            piece = buffer[0, start:stop]
            if channels_last and parameter.dim() == 4:
                o, i, h, w = parameter.shape
                return piece.view(o, h, w, i).permute(0, 3, 1, 2)
            return piece.view(parameter.shape)

        target = view(self.params)
        with torch.no_grad():
            target.copy_(parameter)
            parameter.data = target
        parameter.grad = view(self.grads)

    def _support(self, masks: dict[str, torch.Tensor]) -> torch.Tensor | None:
        concerned = {n: m for n, m in masks.items() if n in self._slices}
        if not concerned:
            return None
        out = torch.ones(self.size, dtype=torch.bool)
        for name, mask in concerned.items():
            start, stop = self._slices[name]
            parameter = dict(self.network.named_parameters())[name]
            laid = torch.empty_strided(parameter.shape, parameter.stride(), dtype=torch.bool)
            laid.copy_(mask)
            out[start:stop] = laid.as_strided((laid.numel(),), (1,))
        return out

    def mask_(self) -> None:
        """Zero every parameter and gradient outside the support."""
        if self.support is not None:
            self.params.mul_(self.support)
            self.grads.mul_(self.support)

    def zero_grad(self) -> None:
        """Zero the gradient buffer."""
        self.grads.zero_()

    def detach(self) -> None:
        """Give every parameter memory of its own and forget gradients."""
        for name, parameter in self.network.named_parameters():
            if name in self._slices:
                parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
            parameter.grad = None
            parameter.requires_grad_(True)
