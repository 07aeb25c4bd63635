"""What every comparison needs: both sides in fresh processes, in turn, and honest statistics."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

Result = dict[str, Any]


@dataclass
class Watch:
    """What a block took.

    Attributes:
        seconds: wall time.
        cpu: processor time of this process, all its threads.
    """

    seconds: float = 0.0
    cpu: float = 0.0


@contextmanager
def watch() -> Iterator[Watch]:
    """Time a block."""
    taken = Watch()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield taken
    finally:
        taken.seconds = time.perf_counter() - wall
        taken.cpu = time.process_time() - cpu


def warm() -> None:
    """Load what torch loads at the first step of an optimiser (seconds), before any watch runs."""
    import torch

    layer = torch.nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(layer.parameters(), fused=True)
    layer(torch.ones(1, 2)).sum().backward()
    optimiser.step()


def peak_megabytes() -> float:
    """Largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def answer(result: Mapping[str, Any]) -> None:
    """What a worker hands back: the last line it prints."""
    print("\n" + json.dumps(result), flush=True)


def fresh(script: str, side: str, settings: Mapping[str, Any], threads: int) -> Result:
    """Run one side in a process of its own, with a fixed number of threads.

    Raises:
        SystemExit: the worker failed; its last words are printed.
    """
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        [sys.executable, script, "--worker", side, "--settings", json.dumps(settings)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    if done.returncode != 0 or not lines:
        tail = "\n".join((done.stderr or done.stdout).splitlines()[-15:])
        raise SystemExit(f"the {side} side failed (exit {done.returncode}):\n{tail}")
    result: Result = json.loads(lines[-1])
    return result


def alternate(
    script: str,
    sides: Sequence[str],
    settings: Mapping[str, Any],
    *,
    pairs: int,
    threads: int,
    told: Callable[[str, int, Result], None],
) -> dict[str, list[Result]]:
    """A B A B ...: each side `pairs` times, a new seed each time, the same for both."""
    results: dict[str, list[Result]] = {side: [] for side in sides}
    for turn in range(pairs):
        for side in sides:
            result = fresh(script, side, {**settings, "seed": turn}, threads)
            results[side].append(result)
            told(side, turn, result)
    return results


def ratios(slow: Sequence[float], fast: Sequence[float]) -> dict[str, float]:
    """Pairwise `slow / fast`: median, least and greatest.

    >>> ratios([4.0, 6.0, 9.0], [2.0, 2.0, 3.0])
    {'median': 3.0, 'min': 2.0, 'max': 3.0}
    """
    pairwise = [a / b for a, b in zip(slow, fast, strict=True)]
    return {"median": statistics.median(pairwise), "min": min(pairwise), "max": max(pairwise)}


def paired_interval(
    first: Sequence[Sequence[bool]], second: Sequence[Sequence[bool]], *, resamples: int = 10_000
) -> tuple[float, float, float]:
    """Difference in accuracy, first minus second, with a 95% bootstrap interval over rows.

    Args:
        first: one list a run; whether each test row was right, rows in the same order everywhere.
        second: the same of the other side.
        resamples: number of bootstrap samples of the rows.

    >>> paired_interval([[True, True]], [[True, True]])
    (0.0, 0.0, 0.0)
    """
    per_row = np.mean(np.asarray(first, dtype=float), axis=0) - np.mean(
        np.asarray(second, dtype=float), axis=0
    )
    draw = np.random.default_rng(0).integers(0, len(per_row), size=(resamples, len(per_row)))
    low, high = np.quantile(per_row[draw].mean(axis=1), [0.025, 0.975])
    return float(per_row.mean()), float(low), float(high)


def verdict(value: float, target: float, *, at_most: bool = False, quick: bool = False) -> str:
    """Whether a figure reaches its target, in words; quick sizes say nothing about it.

    >>> verdict(2.5, 2.0), verdict(1.08, 1.05, at_most=True)
    ('target at least 2: reached', 'target at most 1.05: missed')
    """
    if quick:
        return "quick sizes: they show that both sides run, not how fast"
    reached = value <= target if at_most else value >= target
    bound = "at most" if at_most else "at least"
    return f"target {bound} {target:g}: {'reached' if reached else 'missed'}"
