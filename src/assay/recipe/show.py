"""A plan as lines of text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from assay.claims import Estimate, Read

if TYPE_CHECKING:
    from assay.recipe.plan import Plan, StagePlan


def plan_lines(plan: Plan) -> list[str]:
    """The plan for a person: one line a fact, the stages in order, what holds at the end last."""
    model, data = plan.model, plan.data
    size = f", {count(model.parameters)} parameters" if model.parameters else ""
    origin = "pretrained" if model.pretrained else "from scratch"
    rows = f", {data.rows:,} rows" if data.rows else ""
    private = ", private" if data.private else ""
    lines = [
        f"recipe {plan.name}, seed {plan.seed}",
        f"  model  {model.name}: {model.modality}, {origin}{size}, licence {model.license}"
        + (", FETCHED OVER THE NETWORK" if model.remote else ""),
        f"  data   {data.name}: {data.modality}{rows}, splits {', '.join(data.splits)}, "
        f"a unit is {'a row' if data.unit is None else 'all rows of one ' + data.unit}{private}, "
        f"licence {data.license}" + (", FETCHED OVER THE NETWORK" if data.remote else ""),
        f"  task   {plan.task}",
    ]
    for stage in plan.stages:
        lines += ["", *_stage_lines(stage)]
        if plan.deep is not None:
            lines += [f"  {text}" for text in plan.deep.stage_lines(stage.index)]
    lines += ["", "at the end"]
    for kind, index in sorted(plan.carries.items()):
        lines.append(f"  carries  {kind} (stage {index})")
    if not plan.carries:
        lines.append("  carries  no claims: add an audit")
    for item in plan.require:
        bound = f" {item.bound}" if item.bound else ""
        lines.append(f"  requires {item.kind}{bound}: measured by stage {item.stage} ({item.by})")
    lines.append(f"  costs    {cost(plan.estimate)}")
    if plan.deep is not None:
        lines += ["", *plan.deep.module_lines()]
    return lines


def _stage_lines(stage: StagePlan) -> list[str]:
    lines = [f"stage {stage.index}  {stage.name}"]
    if stage.config:
        lines.append(f"  settings {_short(stage.config).removeprefix('{').removesuffix('}')}")
    for read in stage.reads:
        lines.append(f"  reads    {_read(read)}")
    if stage.moves:
        lines.append(f"  moves    {stage.moves}")
    changes = [f"+{s}" for s in stage.structure_adds] + [f"-{s}" for s in stage.structure_removes]
    if changes:
        lines.append(f"  network  {', '.join(changes)}")
    lines += _listed("  adds     ", stage.adds)
    lines += _listed("  keeps    ", stage.keeps)
    for void in stage.voids:
        mend = f" -> {void.mend}" if void.mend else ""
        lines.append(f"  voids    {void.kind}: {void.why}{mend}")
    lines += [f"  note     {note}" for note in stage.notes]
    if stage.estimate.seconds or stage.estimate.bytes:
        lines.append(f"  costs    {cost(stage.estimate)}")
    return lines


def _listed(head: str, items: Iterable[str]) -> list[str]:
    text = ", ".join(items)
    return [head + text] if text else []


def _read(read: Read) -> str:
    what = f"{read.split} -> {', '.join(read.influences)}"
    why = f": {read.why}" if read.why else ""
    kind = " (disclosure)" if read.disclosure else " (charged)" if read.private else ""
    return f"{what}{why}{kind}"


def _short(value: object) -> str:
    """Settings as a recipe writes them, in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_short(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_short(v) for v in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def cost(estimate: Estimate) -> str:
    """Time and memory in words a person reads at a glance."""
    parts = []
    if estimate.seconds:
        parts.append(f"about {duration(estimate.seconds)}")
    if estimate.bytes:
        parts.append(f"{size(estimate.bytes)} of memory")
    basis = f" ({estimate.basis})" if estimate.basis else ""
    return (", ".join(parts) or "next to nothing") + basis


def duration(seconds: float) -> str:
    """Wall time in words.

    >>> duration(0.4), duration(42), duration(150), duration(7300)
    ('under 1 s', '42 s', '3 min', '2.0 h')
    """
    if seconds < 1:
        return "under 1 s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{-(-seconds // 60):.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def size(n: int) -> str:
    """Bytes in words.

    >>> size(512), size(83_000_000), size(2_500_000_000)
    ('512 B', '83 MB', '2.5 GB')
    """
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n >= scale:
            return f"{n / scale:.1f} {unit}" if n < 10 * scale else f"{n / scale:.0f} {unit}"
    return f"{n} B"


def count(n: int) -> str:
    """A large number in words.

    >>> count(950), count(22_565_376)
    ('950', '22.6M')
    """
    for unit, scale in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if n >= scale:
            return f"{n / scale:.1f}{unit}"
    return str(n)
