"""A player: a network, which of its parameters move, and how it takes a step."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from assay.training.flat import Flat


class Player:
    """Holds a player's buffers and the state of its step parts.

    Args:
        name: the player.
        network: its network.
        moving: names of the parameters that move.
        step: its step parts.
        support: parameter name -> where it may be non-zero.
        blocks: names of the network's blocks from input to output (for layer decay).
    """

    flat: Flat

    def __init__(
        self,
        name: str,
        network: nn.Module,
        moving: list[str],
        step: tuple[Any, ...],
        support: dict[str, torch.Tensor],
        blocks: list[str],
    ) -> None:
        self.name, self.network, self.moving, self._support = name, network, moving, support
        self._blocks = blocks
        (self._optimiser,) = [p for p in step if p.slot == "optimiser"]
        schedules = [p for p in step if p.slot == "schedule"]
        self._schedule = schedules[0] if schedules else None
        self._gradient = [p for p in step if p.slot == "gradient"]
        self._weights = [p for p in step if p.slot == "weights"]
        self._schedule_state: dict[str, float] = {}

    def attach(self, channels_last: bool) -> None:
        """Lay the moving parameters out in one buffer and initialise the parts' states."""
        norms = {
            f"{n}.{p}" if n else p
            for n, m in self.network.named_modules()
            if "norm" in type(m).__name__.lower()
            for p, _ in m.named_parameters(recurse=False)
        }
        self.flat = Flat(
            self.network,
            self.moving,
            lambda name: self._rate(name, norms),
            self._support,
            channels_last,
        )
        flat = self.flat
        self._optimiser_states = [
            self._optimiser.init(flat.params[:, s.start : s.stop]) for s in flat.segments
        ]
        self._gradient_states = [p.init(flat.params) for p in self._gradient]
        self._weights_states = [p.init(flat.params) for p in self._weights]

    @property
    def size(self) -> int:
        """P, the number of parameters that move."""
        return self.flat.size

    def _rate(self, name: str, norms: set[str]) -> tuple[float, bool]:
        """Factor on the rate, and whether the parameter decays."""
        factor = 1.0
        for pattern, value in self._optimiser.rates.items():
            if fnmatchcase(name, pattern):
                factor = value
        decay = self._optimiser.layer_decay
        if decay != 1.0 and self._blocks:
            factor *= decay ** self._depth_from_top(name)
        plain = name.endswith("bias") or name in norms
        if self._optimiser.weight_decay == 0:
            return factor, True  # nothing decays: one run of parameters, one call a step
        return factor, self._optimiser.decay_all or not plain

    def _depth_from_top(self, name: str) -> int:
        """0 after the blocks, 1 for the last block, ..., n + 1 for the embeddings."""
        for i, block in enumerate(self._blocks):
            if name.startswith(f"{block}."):
                return len(self._blocks) - i
        return 0 if re.match(r"(head|pool)\b", name) else len(self._blocks) + 1

    def update(self, step: int, total: int) -> tuple[float, dict[str, float]]:
        """Take the step whose gradient lies in the buffer.

        Args:
            step: number of this step, from 0.
            total: steps the stage will take.

        Returns:
            The base rate of the step and scalars to log.
        """
        flat = self.flat
        metrics: dict[str, float] = {}
        if flat.support is not None:
            flat.grads.mul_(flat.support)
        for part, state in zip(self._gradient, self._gradient_states, strict=True):
            for key, value in part.update(flat.grads, flat.params, state, step=step + 1).items():
                metrics[key] = float(value)
        lr = self._optimiser.lr
        if self._schedule is not None:
            lr *= self._schedule.factor(step, total, self._schedule_state)
        for segment, state in zip(flat.segments, self._optimiser_states, strict=True):
            self._optimiser.update(
                flat.params[:, segment.start : segment.stop],
                flat.grads[:, segment.start : segment.stop],
                state,
                step=step + 1,
                lr=lr * segment.rate,
                weight_decay=self._optimiser.weight_decay if segment.decays else 0.0,
            )
        if flat.support is not None:
            flat.params.mul_(flat.support)
        for part, state in zip(self._weights, self._weights_states, strict=True):
            part.update(flat.params, state, step=step + 1)
        return lr, metrics

    def observe(self, loss: float) -> None:
        """Tell the schedule a validation loss."""
        if self._schedule is not None:
            self._schedule.observe(loss, self._schedule_state)

    def final(self) -> torch.Tensor:
        """The parameters `[1, P]` to evaluate and keep."""
        params = self.flat.params
        for part, state in zip(self._weights, self._weights_states, strict=True):
            params = part.final(params, state)
        return params

    @contextlib.contextmanager
    def showing_final(self) -> Iterator[None]:
        """Within it, the network holds the parameters that would be kept."""
        final = self.final()
        if final is self.flat.params:
            yield
            return
        current = self.flat.params.clone()
        self.flat.params.copy_(final)
        try:
            yield
        finally:
            self.flat.params.copy_(current)

    def kept(self) -> dict[str, torch.Tensor]:
        """A copy of what would be kept: the final parameters, and the network's buffers."""
        buffers = {name: buffer.clone() for name, buffer in self._buffers().items()}
        return {"params": self.final().clone(), **buffers}

    def keep(self, kept: dict[str, torch.Tensor]) -> None:
        """Let what `kept` gave be kept, whatever the weights parts say."""
        self.flat.params.copy_(kept["params"])
        for name, buffer in self._buffers().items():
            buffer.copy_(kept[name])
        self._weights, self._weights_states = [], []

    def detach(self) -> None:
        """Keep the final parameters and give the network its own memory back."""
        final = self.final()
        if final is not self.flat.params:
            self.flat.params.copy_(final)
        self.flat.mask_()
        self.flat.detach()

    # -- state ------------------------------------------------------------------------------

    def _buffers(self) -> dict[str, torch.Tensor]:
        return {f"buffer.{n}": b for n, b in self.network.named_buffers()}

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Everything a resumed run needs: tensors, and plain values."""
        tensors = {"params": self.flat.params, **self._buffers()}
        groups = (
            ("optimiser", self._optimiser_states),
            ("gradient", self._gradient_states),
            ("weights", self._weights_states),
        )
        for label, states in groups:
            for i, held in enumerate(states):
                tensors.update({f"{label}.{i}.{k}": v for k, v in held.items()})
        return tensors, {"schedule": self._schedule_state}

    def restore(self, tensors: dict[str, torch.Tensor], plain: dict[str, Any]) -> None:
        """Undo everything since `state` was taken; buffers keep their memory."""
        mine, _ = self.state()
        with torch.no_grad():
            for name, tensor in mine.items():
                tensor.copy_(tensors[name])
        self._schedule_state.clear()
        self._schedule_state.update(plain["schedule"])
