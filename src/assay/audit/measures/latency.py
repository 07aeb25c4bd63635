"""How long a prediction takes, on a named machine, with pinned threads."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

#: what of a fingerprint must be equal for two timings to speak of the same machine
SAME = ("cpu", "cores", "system", "runtime")


@dataclass(frozen=True)
class Latency:
    """Times of one call, in milliseconds.

    Attributes:
        p50: median over all timed calls.
        p99: 99th percentile over all timed calls.
        blocks_p50: median of each block; the smallest is the one least disturbed.
        blocks_p99: 99th percentile of each block.
        calls: number of timed calls.
    """

    p50: float
    p99: float
    blocks_p50: tuple[float, ...]
    blocks_p99: tuple[float, ...]
    calls: int


def measure(
    call: Callable[[], object], *, blocks: int = 5, seconds: float = 1.0, warm_up: int = 3
) -> Latency:
    """Time a call.

    Args:
        call: what to time.
        blocks: the calls are timed in this many blocks.
        seconds: time to spend on timed calls; at least 2 a block are made, at most 200.
        warm_up: calls that are not timed; fewer where they take longer than `seconds`.
    """
    begin = time.perf_counter()
    once = 0.0
    for _ in range(warm_up):
        start = time.perf_counter()
        call()
        once = max(time.perf_counter() - start, 1e-7)
        if time.perf_counter() - begin > seconds:
            break
    calls = int(min(200, max(2, seconds / blocks / once)))
    times = np.empty((blocks, calls))
    for b in range(blocks):
        for i in range(calls):
            start = time.perf_counter()
            call()
            times[b, i] = time.perf_counter() - start
    times *= 1000.0
    return Latency(
        p50=float(np.median(times)),
        p99=float(np.quantile(times, 0.99)),
        blocks_p50=tuple(float(x) for x in np.median(times, axis=1)),
        blocks_p99=tuple(float(x) for x in np.quantile(times, 0.99, axis=1)),
        calls=blocks * calls,
    )


def fingerprint(runtime: str, threads: int) -> dict[str, str | int]:
    """What a latency depends on beside the model.

    Args:
        runtime: `torch` or `onnxruntime`.
        threads: intra-op threads of the timed calls.

    Returns:
        `cpu` (its model name), `cores` (logical), `system`, `runtime` (with its version),
        `threads`.
    """
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.machine()}",
        "runtime": f"{runtime} {importlib.metadata.version(runtime)}",
        "threads": threads,
    }


def same_machine(a: object, b: object) -> bool:
    """Whether two fingerprints name the same machine and runtime."""
    if not isinstance(a, dict) or not isinstance(b, dict):
        return False
    return all(key in a and a.get(key) == b.get(key) for key in SAME)


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


@contextlib.contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Pin torch's intra-op threads for a while."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
