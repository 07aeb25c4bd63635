"""Measure again what a stage claimed, and compare."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assay import registry
from assay.claims import Claim, PlanContext
from assay.claims.claim import Scalar, Status
from assay.claims.passport import Passport
from assay.claims.replay import CurrentClaim, PlacedStage, replay
from assay.config import build, build_part
from assay.errors import ArtefactError, AssayError, UsageError
from assay.stages.base import Stage, close
from assay.verify.findings import Finding

if TYPE_CHECKING:
    from assay.data.dataset import Dataset
    from assay.training.context import Progress, Retrain, RunContext
    from assay.verify.data import Absent

#: what a forged record, or data nobody foresaw, can make a measurement raise: not a traceback
_ACCIDENTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Bench:
    """What measuring again needs.

    Attributes:
        model: the finished model, or the reason why it cannot be loaded.
        passport: its passport.
        data: opens the data of a stage's run.
        threads: number of intra-op threads (None: as many as the run had).
        retrain: gives the context of a stage its `retrain`; None: nothing is trained.
        progress: tells the person.
    """

    model: Any
    passport: Passport
    data: Callable[[PlacedStage], Dataset | Absent]
    threads: int | None
    retrain: Callable[[PlacedStage], Retrain] | None
    progress: Progress


def plan_context(passport: Passport, placed: PlacedStage) -> PlanContext:
    """What the plan knew before a stage, rebuilt from the records before it."""
    stages = passport.stages()
    structures: list[str] = []
    model = placed.origin.model
    for one in stages:
        if one.number >= placed.number:
            break
        effects = one.record.effects
        structures = [s for s in structures if s not in effects.structure_removes]
        structures += [s for s in effects.structure_adds if s not in structures]
        if one.run == placed.run and effects.model is not None:
            model = effects.model
    before = []
    for record in passport.records:
        if record.stage is placed.record:
            break
        before.append(record)
    carried = {c.claim.kind: c.stage for c in replay(before) if c.carried}
    return PlanContext(
        model=model,
        data=placed.origin.data,
        task=build_part("task", placed.origin.task, "task"),
        structures=tuple(structures),
        carried=carried,
        stage=placed.record.index,
        stages=tuple(stages_of_run(stages, placed.run)),
    )


def stages_of_run(stages: Sequence[PlacedStage], run: int) -> Iterator[Any]:
    """The stages of one run as they were configured."""
    for one in stages:
        if one.run == run:
            try:
                yield stage_of(one)
            except UsageError:  # a user's own stage, unknown here, must not hide the others
                yield one.record


def stage_of(placed: PlacedStage) -> Stage:
    """The stage as it was configured.

    Raises:
        UsageError: no such stage is registered, or it has no such settings any more.
    """
    name = placed.record.name
    where = f"stage {placed.number} ({name})"
    stage = build(registry.find("stage", name, where), placed.record.config, where)
    if not isinstance(stage, Stage):
        raise ArtefactError("not a stage", where=where, mend="restore the artefact")
    return stage


def _context(bench: Bench, placed: PlacedStage) -> RunContext:
    from copy import deepcopy

    from assay.training.context import RunContext

    origin = placed.origin
    data: Any = bench.data(placed)
    return RunContext(
        dataset=data,
        plan=plan_context(bench.passport, placed),
        seed=origin.seed,
        stage=placed.record.index,
        threads=bench.threads or origin.threads,
        progress=bench.progress,
        retrain=bench.retrain(placed) if bench.retrain is not None else None,
        # historical claims are recomputed from what was recorded as used
        used=deepcopy(placed.record.used),
    )


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch, where it is loaded, use as many threads as the run did."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def remeasure(bench: Bench, placed: PlacedStage, current: Sequence[CurrentClaim]) -> list[Finding]:
    """Measure again what is still carried of a stage's claims.

    What cannot be measured here (data absent or changed, a package missing, a part unknown) is
    `unverifiable`, with the reason; so is what a failing measurement did not come to.

    Raises:
        ArtefactError: the artefact contradicts itself.
    """
    if isinstance(bench.model, str):
        return [Finding(c.claim, c.stage, "unverifiable", why=bench.model) for c in current]
    again: list[Claim] = []
    stage, stopped = None, ""
    try:
        stage = stage_of(placed)
        context = _context(bench, placed)
        again = context.claims
        with _threads(context.threads):
            stage.measure(bench.model, context)
    except ArtefactError:
        raise
    except AssayError as error:
        stopped = error.line()
    except ImportError as error:
        stopped = f"a package is missing: {error.name or error}"
    except _ACCIDENTS as error:
        stopped = f"measuring again failed: {type(error).__name__}: {error}"
    if stage is None:
        return [Finding(c.claim, c.stage, "unverifiable", why=stopped) for c in current]
    found = {claim.identity(): claim for claim in again}
    if not stopped and bench.retrain is None:
        stopped = "it was not measured without training anew"
    return [_finding(stage, one, found, stopped) for one in current]


def _finding(stage: Stage, current: CurrentClaim, found: dict[str, Claim], stopped: str) -> Finding:
    claim = current.claim
    again = found.get(claim.identity())
    if again is not None:
        status, why = compare(stage, claim, again)
        return Finding(claim, current.stage, status, again.value, why)
    similar = _similar(claim, found)
    if similar is not None and _agrees(stage, claim, similar) == "unverifiable":
        why = "its conditions (machine, threads) cannot be had here"
        return Finding(claim, current.stage, "unverifiable", why=why)
    if stopped:
        return Finding(claim, current.stage, "unverifiable", why=stopped)
    if claim.nature == "historical":
        why = "nothing recomputes it from what was recorded"
        return Finding(claim, current.stage, "unverifiable", why=why)
    return Finding(claim, current.stage, "fails", why="its stage does not measure such a claim")


def _similar(claim: Claim, found: dict[str, Claim]) -> Claim | None:
    """What was measured in the claim's place under other conditions."""
    place = (claim.kind, claim.dataset, claim.split)
    for other in found.values():
        if (other.kind, other.dataset, other.split) == place and (
            other.conditions.keys() == claim.conditions.keys()
        ):
            return other
    return None


def _agrees(stage: Stage, claim: Claim, again: Claim) -> Status:
    try:
        return stage.agrees(claim, again)
    except (TypeError, ValueError, KeyError, AttributeError):
        return "fails"  # the claim is not even of the form that its stage gives


def compare(stage: Stage, claim: Claim, again: Claim) -> tuple[Status, str]:
    """Whether a claim says what was measured again, and if not, why.

    The stage judges the value. Where it is satisfied, everything else that a reader relies on must
    agree too: nature, unit, n and level exactly, the method where the value was met closely, the
    interval up to what the value itself was off by. `details` are not compared.
    """
    status = _agrees(stage, claim, again)
    if status == "fails":
        return status, "measured otherwise"
    if status != "holds":
        return status, "it cannot be measured on this machine"
    for name in ("nature", "unit", "n", "level"):
        said, is_so = getattr(claim, name), getattr(again, name)
        if said != is_so:
            return "fails", f"its {name} is {is_so!r}, not {said!r}"
    if close(claim.value, again.value) and claim.method != again.method:
        return "fails", f"its method is {again.method!r}, not {claim.method!r}"
    if not _same_interval(claim, again):
        return "fails", f"its interval is {again.interval}, not {claim.interval}"
    return "holds", ""


def _same_interval(claim: Claim, again: Claim) -> bool:
    """Whether the ends agree up to three times what the value is off by, and a share of the width.

    The share is a hundredth, for rounding; half where both measurements name different machines,
    for there training ends elsewhere, and resampled intervals with it.
    """
    a, b = claim.interval, again.interval
    if a is None or b is None:
        return a is b
    elsewhere = claim.details.get("machine") != again.details.get("machine")
    slack = (0.5 if elsewhere else 0.01) * abs(b[1] - b[0]) + 3 * _apart(claim.value, again.value)
    return all(close(x, y, absolute=max(slack, 1e-9)) for x, y in zip(a, b, strict=True))


def _apart(a: Scalar, b: Scalar) -> float:
    return abs(a - b) if isinstance(a, (int, float)) and isinstance(b, (int, float)) else 0.0
