"""Whether the bricks of a step make one."""

from __future__ import annotations

from collections.abc import Iterable

from assay.claims import Refusal
from assay.training.parts import StepPart


def check_step(parts: Iterable[StepPart]) -> list[Refusal]:
    """What is wrong with the bricks of a step taken together.

    A step has exactly one optimiser, at most one schedule, at most one part that follows the
    weights, and each gradient part and each setting at most once.

    Args:
        parts: the bricks, in the order written.
    """
    written = list(parts)
    found: list[Refusal] = []
    for slot in ("optimiser", "schedule", "weights"):
        names = [part.part_name for part in written if part.slot == slot]
        if len(names) > 1:
            what = f"{len(names)} {slot} parts in one step: {', '.join(names)}"
            found.append(Refusal(what=what, where="step", mend=f"keep one of {', '.join(names)}"))
    if not any(part.slot == "optimiser" for part in written):
        found.append(
            Refusal(
                what="the step has no optimiser", where="step", mend="add one, e.g. adamw: 0.001"
            )
        )
    single = [part.part_name for part in written if part.slot in ("gradient", "setting")]
    for name in sorted({name for name in single if single.count(name) > 1}):
        found.append(
            Refusal(what=f"{name} stands twice in one step", where="step", mend=f"keep one {name}")
        )
    return found
