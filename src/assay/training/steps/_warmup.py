"""What the schedules share: how many steps the warm-up takes, and how far a stage is after it."""

from __future__ import annotations

import math


def warmup_steps(warmup: float, total: int) -> int:
    """Steps of a warm-up given as steps (>= 1) or as a share of `total` (< 1), at most `total`.

    >>> warmup_steps(0.1, 30), warmup_steps(0.1, 31), warmup_steps(5, 31), warmup_steps(50, 31)
    (3, 4, 5, 31)
    """
    # rounded first: 0.1 * 30 is a little more than 3, and would make 4
    steps = math.ceil(round(warmup * total, 9)) if warmup < 1 else round(warmup)
    return min(steps, total)


def rising(step: int, warmup: int) -> float | None:
    """The factor during the warm-up, `step / warmup`; None when it is over."""
    return step / warmup if step < warmup else None


def progress(step: int, warmup: int, total: int) -> float:
    """Share of the steps after the warm-up that are done, in [0, 1]."""
    return min(1.0, (step - warmup) / max(1, total - warmup))
