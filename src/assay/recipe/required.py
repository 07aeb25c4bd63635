"""Which stage will measure a required claim, or why the end of a recipe cannot carry it."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from pydantic import ValidationError

from assay import registry
from assay.claims import PlanContext, Refusal, Requirement
from assay.config import Config
from assay.errors import AssayError
from assay.recipe.walk import EPSILON, LEAK_MEND, Contribution, Walked


class RequirementPlan(Config):
    """A required claim and the stage that will measure it."""

    kind: str
    bound: str | None
    stage: int
    by: str


def measured_by(item: Requirement, walked: Walked) -> RequirementPlan | Refusal:
    """Who will measure a required claim, or why the end cannot carry it."""
    where = f"require: {item.kind}"
    kind = item.kind
    alive = [c for c in walked.contributions if c.stage < 0 and c.does_add(kind)]
    lost: tuple[int, list[Contribution]] | None = None
    for index, effect in enumerate(walked.effects):
        if not effect.does_keep(kind):
            if alive:
                lost = (index, alive)
            alive = []
        for new in (c for c in walked.contributions if c.stage == index and c.does_add(kind)):
            alive = [c for c in alive if c.splits != new.splits] + [new]
    if kind == EPSILON:
        refusal = _tainted(item, walked, where)
        if refusal:
            return refusal
    if not alive and lost:
        by, stages = lost[0], walked.stages
        measured = lost[1][-1].stage
        who = f"{stages[measured].label} measures" if measured >= 0 else "the base model carries"
        move = f", or move stage {by} before stage {measured}" if measured >= 0 else ""
        return Refusal(
            what=f"{stages[by].label} voids {kind}, which {who} before it",
            where=where,
            mend=f"audit again after stage {by}{move}",
        )
    if not alive:
        return _never_measured(kind, walked, where)
    if item.split is not None:
        on_split = [c for c in alive if item.split in c.splits]
        known = sorted({s for c in alive for s in c.splits})
        certain = all(c.splits for c in alive) and item.split in walked.context.data.splits
        if not on_split and certain:
            return Refusal(
                what=f"{kind} is measured on {', '.join(known)}, not on {item.split}",
                where=where,
                mend=f"audit on {item.split}, or require it on {known[0]}",
            )
        alive = on_split or alive
    elif len({c.splits for c in alive}) > 1:
        said = " and ".join(
            f"stage {c.stage} on {', '.join(c.splits) or 'no split'}" for c in alive
        )
        return Refusal(
            what=f"ambiguous: {kind} is measured by {said}",
            where=where,
            mend=f"name the split: {{split: {(alive[-1].splits or ('test',))[0]}, bound: ...}}",
        )
    chosen = alive[-1]
    bound = item.bound.text.strip() if item.bound else None
    return RequirementPlan(kind=kind, bound=bound, stage=chosen.stage, by=chosen.by)


def _tainted(item: Requirement, walked: Walked, where: str) -> Refusal | None:
    splits = [s for s in walked.tainted if item.split in (None, s)]
    if not splits:
        return None
    stage = walked.stages[walked.tainted[splits[0]]]
    why = next(v.why for v in stage.voids if v.kind == EPSILON)
    return Refusal(what=f"{stage.label} voids {EPSILON}: it {why}", where=where, mend=LEAK_MEND)


def _never_measured(kind: str, walked: Walked, where: str) -> Refusal:
    voids = [i for i, e in enumerate(walked.effects) if not e.does_keep(kind)]
    last = voids[-1] if voids else len(walked.stages) - 1
    also = f", and {walked.stages[last].label} would void it" if voids else ""
    offers = _offers(kind, walked.context)
    if offers:
        mend = f"add `{offers[0]}` after stage {last}"
    else:
        mend = "no registered audit or stage measures it: correct the kind, or leave it out"
    return Refusal(what=f"no stage measures {kind}{also}", where=where, mend=mend)


def _offers(kind: str, context: PlanContext) -> list[str]:
    """How a recipe may get a claim of that kind: audits first, then stages, with their defaults."""
    found = []
    for group in ("audit", "stage"):
        for name, cls in registry.parts(group).items():
            try:
                part: Any = cls()
                adds = part.adds(context) if group == "audit" else part.effects(context).adds
            except (AssayError, ValidationError):
                continue
            if any(fnmatchcase(kind, pattern) for pattern in adds):
                found.append(f"audit: {name}" if group == "audit" else name)
    return found
