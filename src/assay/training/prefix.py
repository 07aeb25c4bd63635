"""The longest frozen prefix of a network: run once, then feed what follows from a cache (law 5).

How: one forward pass on a small batch records when each module starts and ends. A module is a
candidate *cut* when every moving parameter belongs to modules that start after it has ended. The
network is then replayed with the cut returning its cached output and every earlier module
returning a placeholder; a candidate is taken only if the replayed outputs equal the real ones on
two batches of different shape. So no architecture needs to be written for it, and a network in
which something flows around the cut is found out, not silently wrong.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from assay.errors import LoadError

Inputs = dict[str, torch.Tensor]

#: caches beyond this many bytes live in a file of the run's folder instead of memory
IN_MEMORY = 1 << 30
_TRIES = 6


@dataclass
class _Trace:
    """When modules start and end in one forward pass."""

    starts: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)


class _StoppedError(Exception):
    """Ends a forward pass at the cut."""


def _first_tensor(value: Any) -> torch.Tensor | None:
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, (tuple, list)) and value and isinstance(value[0], torch.Tensor):
        return value[0]
    return None


def _trace(network: nn.Module, inputs: Inputs) -> tuple[_Trace, torch.Tensor]:
    trace, clock, handles = _Trace(), iter(range(1 << 30)), []
    for name, module in network.named_modules():

        def before(_: nn.Module, __: Any, name: str = name) -> None:
            trace.starts.setdefault(name, next(clock))
            trace.calls[name] = trace.calls.get(name, 0) + 1

        def after(_: nn.Module, __: Any, output: Any, name: str = name) -> None:
            trace.ends[name] = next(clock)
            trace.outputs[name] = output

        handles.append(module.register_forward_pre_hook(before))
        handles.append(module.register_forward_hook(after))
    try:
        with torch.no_grad():
            result = network(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return trace, result


def _candidates(network: nn.Module, moving: set[str], trace: _Trace) -> list[str]:
    """Possible cuts, the latest first; of those that end together the outermost."""
    first = None
    for name in moving:
        owner = name.rpartition(".")[0]
        if owner not in trace.starts:
            return []
        start = trace.starts[owner]
        first = start if first is None else min(first, start)
    if first is None:
        return []
    modules = dict(network.named_modules())
    found = [
        name
        for name, end in trace.ends.items()
        if end < first
        and trace.calls[name] == 1
        and not isinstance(modules[name], nn.Dropout)
        and _first_tensor(trace.outputs[name]) is not None
    ]
    return sorted(found, key=lambda n: -trace.ends[n])


class Prefix:
    """A found cut, and the means to run what is before it and what follows it.

    Attributes:
        cut: name of the module whose output is cached.
        before: outermost modules that end before the cut does, the cut included: all that runs in
            evaluation mode and is skipped when fed.
    """

    def __init__(self, network: nn.Module, cut: str, trace: _Trace) -> None:
        self.network, self.cut = network, cut
        end = trace.ends[cut]
        done = [n for n, e in trace.ends.items() if e <= end and n]
        self.before = [n for n in done if not any(n.startswith(f"{o}.") for o in done if o != n)]
        modules = dict(network.named_modules())
        self._cut_module = modules[cut]
        self._earlier = [modules[n] for n in self.before]
        self._kinds = [type(trace.outputs[n]) for n in self.before]
        self._fed: torch.Tensor | None = None

    def weighs(self) -> bool:
        """Whether anything before the cut has parameters."""
        return any(True for module in self._earlier for _ in module.parameters())

    def freeze(self) -> None:
        """Put the prefix in evaluation mode (after `network.train()`)."""
        for module in self._earlier:
            module.eval()

    def run(self, inputs: Inputs) -> torch.Tensor:
        """The cut's output; nothing after it runs."""
        caught: list[torch.Tensor] = []

        def stop(_: nn.Module, __: Any, output: Any) -> None:
            tensor = _first_tensor(output)
            assert tensor is not None
            caught.append(tensor)
            raise _StoppedError

        handle = self._cut_module.register_forward_hook(stop)
        try:
            with torch.no_grad(), contextlib.suppress(_StoppedError):
                self.network(**inputs)
        finally:
            handle.remove()
        return caught[0]

    def feed(self, value: torch.Tensor) -> None:
        """Let the next forward pass use this output of the cut."""
        self._fed = value

    @contextlib.contextmanager
    def skipping(self) -> Iterator[None]:
        """Within it, the prefix's modules do not run: they hand on what `feed` gave."""
        try:
            for module, kind in zip(self._earlier, self._kinds, strict=True):
                tuple_like = issubclass(kind, (tuple, list))

                def replay(*_: Any, _tuple: bool = tuple_like, **__: Any) -> Any:
                    assert self._fed is not None, "the prefix was not fed"
                    return (self._fed,) if _tuple else self._fed

                module.forward = replay
            yield
        finally:
            for module in self._earlier:
                module.__dict__.pop("forward", None)
            self._fed = None


def find_prefix(network: nn.Module, moving: set[str], samples: list[Inputs]) -> Prefix | None:
    """The latest cut that replays exactly on the samples; None where there is none.

    Args:
        network: the network, in any mode (its mode is restored).
        moving: names of the parameters that move.
        samples: two or more small batches of different shapes.
    """
    mode = {m: m.training for m in network.modules()}
    network.eval()
    try:
        trace, _ = _trace(network, samples[0])
        for cut in _candidates(network, moving, trace)[:_TRIES]:
            prefix = Prefix(network, cut, trace)
            if not prefix.weighs():
                break  # what only scales pixels costs less than a cache of scaled pixels
            if all(_replays(network, prefix, inputs) for inputs in samples):
                return prefix
        return None
    finally:
        for module, training in mode.items():
            module.training = training


def _replays(network: nn.Module, prefix: Prefix, inputs: Inputs) -> bool:
    with torch.no_grad():
        wanted = network(**inputs)
        value = prefix.run(inputs)
        with prefix.skipping():
            prefix.feed(value)
            try:
                got = network(**inputs)
            except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError):
                return False
    return got.shape == wanted.shape and bool(torch.allclose(got, wanted, rtol=1e-5, atol=1e-6))


class Cache:
    """Outputs of the cut for every row of a split.

    Rows of token states are kept without padding. A large cache lives in a file that only the
    owner may read and that is gone when the cache is closed.

    Args:
        lengths: `[n]` length of each row, for token states; None for one vector a row.
        width: shape of one row's (or one token's) value.
        dtype: type of the values.
        folder: where a large cache's file goes; None keeps it in memory.
    """

    def __init__(
        self,
        lengths: np.ndarray[Any, np.dtype[np.int64]] | None,
        n: int,
        width: tuple[int, ...],
        dtype: torch.dtype,
        folder: Path | None,
    ) -> None:
        self.lengths = lengths
        rows = int(lengths.sum()) if lengths is not None else n
        self.starts = np.concatenate([[0], np.cumsum(lengths)]) if lengths is not None else None
        size = rows * int(np.prod(width)) * dtype.itemsize
        self._file: Any = None
        if folder is not None and size > IN_MEMORY:
            # an unnamed file: readable by the owner only, and gone however the process ends
            self._file = tempfile.TemporaryFile(dir=folder, prefix="prefix-")  # noqa: SIM115
            _reserve(self._file.fileno(), size)
            buffer = np.memmap(self._file, dtype=np.uint8, mode="r+", shape=(size,))
            self.values = torch.from_numpy(buffer).view(dtype).view(rows, *width)
        else:
            self.values = torch.empty((rows, *width), dtype=dtype)

    def put(self, rows: torch.Tensor, value: torch.Tensor) -> None:
        """Keep the cut's output `[N, ...]` for rows."""
        if self.starts is None or self.lengths is None:
            self.values[rows] = value
            return
        for i, row in enumerate(rows.tolist()):
            start, length = int(self.starts[row]), int(self.lengths[row])
            self.values[start : start + length] = value[i, :length]

    def get(self, rows: torch.Tensor, length: int | None = None) -> torch.Tensor:
        """The values of rows, padded with zeros to `length` where they are token states."""
        if self.starts is None or self.lengths is None:
            return self.values[rows]
        wanted = rows.tolist()
        longest = length or int(self.lengths[wanted].max())
        out = self.values.new_zeros((len(wanted), longest, *self.values.shape[1:]))
        for i, row in enumerate(wanted):
            start, n = int(self.starts[row]), int(self.lengths[row])
            out[i, :n] = self.values[start : start + n]
        return out

    def close(self) -> None:
        """Free the memory or the file."""
        self.values = torch.empty(0)
        if self._file is not None:
            self._file.close()


def _reserve(handle: int, size: int) -> None:
    """Give a file its space now: a mapped page that finds none later would kill the process."""
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        raise LoadError(
            f"cannot keep {size:,} bytes of cached activations: {error.strerror}",
            where="the run's folder",
            mend="free some space, or choose another folder with --out",
        ) from error


def fill(
    prefix: Prefix,
    collate: Any,
    lengths: np.ndarray[Any, np.dtype[np.int64]] | None,
    n: int,
    folder: Path | None,
    batch: int = 64,
) -> Cache:
    """Run the prefix over all rows of a split.

    Args:
        prefix: the cut.
        collate: row indices -> inputs of those rows.
        lengths: row lengths where inputs are ragged.
        n: number of rows.
        folder: see `Cache`.
        batch: rows at a time.
    """
    order = np.argsort(-lengths, kind="stable") if lengths is not None else np.arange(n)
    cache: Cache | None = None
    for start in range(0, n, batch):
        rows = torch.from_numpy(order[start : start + batch].copy())
        inputs = collate(rows)
        value = prefix.run(inputs)
        if cache is None:
            padded = max((v.shape[1] for v in inputs.values() if v.dim() > 1), default=None)
            ragged = lengths is not None and value.dim() > 2 and value.shape[1] == padded
            cache = Cache(
                lengths if ragged else None,
                n,
                tuple(value.shape[2:] if ragged else value.shape[1:]),
                value.dtype,
                folder,
            )
        cache.put(rows, value)
    assert cache is not None
    return cache
