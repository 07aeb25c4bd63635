"""What a recipe would do: its stages, what they read and move, and which claims survive them.

Static: configs and cards only. No data are opened, no network is built, nothing heavy is imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from assay import registry
from assay.claims import (
    Capabilities,
    DataCard,
    Effects,
    Estimate,
    ModelCard,
    PlanContext,
    Read,
    Refusal,
    Requirement,
)
from assay.claims.capabilities import conflicts, of
from assay.config import Config, dump, dump_part
from assay.errors import AssayError, UsageError

if TYPE_CHECKING:
    from assay.recipe.deep import DeepPlan
    from assay.recipe.schema import Recipe

#: the kind that an uncharged reading of private rows voids
EPSILON = "privacy.epsilon"

_GIVES_BY_MODALITY = {"text": "token_inputs", "tabular": "feature_inputs"}


class PlanRefused(UsageError):
    """The recipe cannot do what it says or requires.

    Args:
        refusals: all reasons; the first is the main one.
    """

    def __init__(self, refusals: list[Refusal]) -> None:
        self.refusals = tuple(refusals)
        main = refusals[0]
        super().__init__(main.what, where=main.where or None, mend=main.mend or None)


class Voided(Config):
    """A kind of claim that a stage makes void, and why."""

    kind: str
    why: str
    mend: str = ""


class StagePlan(Config):
    """One stage of a plan.

    Attributes:
        index: its place in the recipe, from 0.
        name: its registered name.
        config: its settings with every default.
        reads: what data it reads and what that influences.
        disclosures: those of `reads` that reach only claims or the report.
        moves: which parameters move, in words.
        adds: kinds of claim (patterns) it measures.
        keeps: kinds that held before it and hold after it.
        voids: kinds that held before it and do not after it.
        structure_adds: structures it adds.
        structure_removes: structures it removes.
        structures: structures of the network after it.
        notes: what else a reader should know.
        estimate: what it will cost, roughly.
    """

    index: int
    name: str
    config: dict[str, Any]
    reads: tuple[Read, ...] = ()
    disclosures: tuple[Read, ...] = ()
    moves: str = ""
    adds: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    voids: tuple[Voided, ...] = ()
    structure_adds: tuple[str, ...] = ()
    structure_removes: tuple[str, ...] = ()
    structures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    estimate: Estimate = Estimate()

    @property
    def label(self) -> str:
        """`stage 2 (merge)`."""
        return f"stage {self.index} ({self.name})"


class RequirementPlan(Config):
    """A required claim and the stage that will measure it."""

    kind: str
    bound: str | None
    stage: int
    by: str


class Plan(Config):
    """What a recipe would do.

    Attributes:
        name: of the recipe.
        model: what is known of the network.
        data: what is known of the data.
        task: name of the task.
        task_config: its settings.
        seed: the recipe's seed.
        stages: in order.
        require: each required claim and who will measure it.
        carries: kinds of claim (patterns) that hold at the end -> stage that measures them.
        estimate: of all stages: seconds add up, memory is the largest.
        deep: what the real network adds, where it was built.
    """

    name: str
    model: ModelCard
    data: DataCard
    task: str
    task_config: dict[str, Any]
    seed: int
    stages: tuple[StagePlan, ...]
    require: tuple[RequirementPlan, ...]
    carries: dict[str, int]
    estimate: Estimate
    deep: Any = None

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        out: dict[str, Any] = dump(self)
        return out

    def lines(self) -> list[str]:
        """The plan for a person, line by line."""
        from assay.recipe.show import plan_lines

        return plan_lines(self)


class Contribution(Config):
    """One measurement of some kinds of claim within a stage."""

    stage: int
    by: str
    adds: tuple[str, ...]
    splits: tuple[str, ...]

    def does_add(self, kind: str) -> bool:
        """Whether it measures that kind."""
        return any(fnmatchcase(kind, pattern) for pattern in self.adds)


class _Walked(Config):
    """What the walk over the stages found."""

    stages: tuple[StagePlan, ...]
    effects: tuple[Effects, ...]
    contributions: tuple[Contribution, ...]
    tainted: dict[str, int]
    carried: dict[str, int]
    context: PlanContext


def plan(recipe: Recipe, deep: bool = False) -> Plan:
    """What a recipe would do.

    Args:
        recipe: the recipe.
        deep: build the network on the meta device, count and check it module by module.

    Raises:
        PlanRefused: it cannot do what it says or requires; all reasons at once.
        AssayError: model or data are not what the recipe says they are.
    """
    start = recipe.context()
    refusals = list(_fit(start))
    walked = _walk(recipe, start, refusals, fits=not refusals)
    required = []
    for item in recipe.require:
        found = _require(item, walked, recipe)
        if isinstance(found, Refusal):
            refusals.append(found)
        else:
            required.append(found)
    if refusals:
        raise PlanRefused(list(dict.fromkeys(_by_text(refusals))))
    deep_plan: DeepPlan | None = None
    if deep:
        from assay.recipe.deep import deepen

        deep_plan = deepen(recipe, walked.stages)
    return Plan(
        name=recipe.name,
        model=start.model,
        data=start.data,
        task=recipe.task.part_name,
        task_config=dump(recipe.task),
        seed=recipe.seed,
        stages=walked.stages,
        require=tuple(required),
        carries=walked.carried,
        estimate=_total([s.estimate for s in walked.stages]),
        deep=deep_plan,
    )


def _by_text(refusals: list[Refusal]) -> Iterator[Refusal]:
    seen: set[tuple[str, str]] = set()
    for refusal in refusals:
        if (refusal.where, refusal.what) not in seen:
            seen.add((refusal.where, refusal.what))
            yield refusal


def _fit(context: PlanContext) -> Iterator[Refusal]:
    """Whether model, data and task speak of the same things."""
    model, data, task = context.model, context.data, context.task
    if model.modality != data.modality:
        yield Refusal(
            what=f"{model.name} reads {model.modality}, but {data.name} is {data.modality} data",
            where="model",
            mend=f"choose a {data.modality} model, or {model.modality} data",
        )
        return
    modality = getattr(type(task), "modality", data.modality)
    if modality != data.modality:
        yield Refusal(
            what=f"{task.part_name} is for {modality} data, but {data.name} is {data.modality}",
            where="task",
            mend="leave out task to have it inferred",
        )
        return
    kind = getattr(type(task), "kind", None)
    if kind == "classification" and data.classes == 0:
        yield Refusal(
            what=f"{task.part_name} needs classes, but the label {data.label!r} is a number",
            where="task",
            mend="leave out task to have it inferred",
        )
    if kind == "regression" and data.classes:
        yield Refusal(
            what=f"{task.part_name} needs a number, but the label {data.label!r} has "
            f"{data.classes} classes",
            where="task",
            mend="leave out task to have it inferred",
        )


def _surroundings(context: PlanContext) -> list[tuple[str, Capabilities]]:
    """What task, model and data declare."""
    model, data, task = context.model, context.data, context.task
    gives = {"linear_layers"}
    if model.modality in _GIVES_BY_MODALITY:
        gives.add(_GIVES_BY_MODALITY[model.modality])
    given = set()
    if "valid" in data.splits:
        given.add("valid_split")
    if data.label is not None or data.classes != 0:
        given.add("labels")
    return [
        (f"task {task.part_name}", of(task, context)),
        (f"model {model.name}", Capabilities(gives=frozenset(gives))),
        (f"data {data.name}", Capabilities(gives=frozenset(given))),
    ]


def _walk(recipe: Recipe, start: PlanContext, refusals: list[Refusal], fits: bool) -> _Walked:
    stages: list[StagePlan] = []
    effects: list[Effects] = []
    contributions: list[Contribution] = []
    tainted: dict[str, int] = {}
    carried: dict[str, int] = {}
    structures = start.structures
    context = start
    for index, stage in enumerate(recipe.stages):
        context = start.model_copy(
            update={"stage": index, "structures": structures, "carried": dict(carried)}
        )
        where = f"stages[{index}].{stage.part_name}"
        try:
            effect = stage.effects(context)
            if fits:
                refusals.extend(_conflicts(stage, context, where))
            estimate = stage.estimate(context)
            contributions.extend(_contributions(stage, effect, context))
        except AssayError as error:
            at = error.where or ""
            inner = at if at.startswith(("stages[", "data", "model", "task")) else where
            refusals.append(Refusal(what=error.what, where=inner, mend=error.mend or ""))
            effect, estimate = Effects(), Estimate()
        leaks = _leaks(effect, start.data)
        for read in leaks:
            tainted.setdefault(read.split, index)
        before = dict(carried)
        carried, voids = _carry(before, effect, index)
        if tainted:
            carried = {k: v for k, v in carried.items() if not fnmatchcase(EPSILON, k)}
        if leaks:
            voids = [v for v in voids if v.kind != EPSILON] + [_leak_void(leaks)]
        structures = _structures(structures, effect)
        effects.append(effect)
        stages.append(
            StagePlan(
                index=index,
                name=stage.part_name,
                config=dump_part(stage)[stage.part_name],
                reads=effect.reads,
                disclosures=tuple(r for r in effect.reads if r.disclosure),
                moves=effect.moves,
                adds=effect.adds,
                keeps=tuple(k for k in carried if k in before and not effect.does_add(k)),
                voids=tuple(voids),
                structure_adds=effect.structure_adds,
                structure_removes=effect.structure_removes,
                structures=structures,
                notes=effect.notes,
                estimate=estimate,
            )
        )
    return _Walked(
        stages=tuple(stages),
        effects=tuple(effects),
        contributions=tuple(contributions),
        tainted=tainted,
        carried=carried,
        context=context,
    )


def _conflicts(stage: Any, context: PlanContext, where: str) -> list[Refusal]:
    """What in the stage, its parts and its surroundings cannot go together."""
    declared = [(stage.part_name, stage.capabilities(context))]
    declared += [(name, of(part, context)) for name, part in stage.parts()]
    declared += _surroundings(context)
    return [r.model_copy(update={"where": where}) for r in conflicts(declared)]


def _contributions(stage: Any, effect: Effects, context: PlanContext) -> list[Contribution]:
    """Who in the stage measures what, on which splits: its audits one by one, else the stage."""
    name = stage.part_name
    found = []
    for part_name, part in stage.parts():
        if hasattr(part, "adds") and hasattr(part, "reads"):
            reads = part.reads(context)
            found.append(_contribution(context.stage, f"{name}: {part_name}", part.adds(context), reads))
    rest = tuple(a for a in effect.adds if not any(c.does_add(a) for c in found))
    if rest:
        found.append(_contribution(context.stage, name, rest, effect.reads))
    return found


def _contribution(
    stage: int, by: str, adds: tuple[str, ...], reads: tuple[Read, ...]
) -> Contribution:
    splits = dict.fromkeys(r.split for r in reads if "claims" in r.influences)
    return Contribution(stage=stage, by=by, adds=adds, splits=tuple(splits))


def _carry(
    before: dict[str, int], effect: Effects, index: int
) -> tuple[dict[str, int], list[Voided]]:
    """What is carried after a stage, and what it voids. Kinds may be patterns (`quality.*`)."""
    after: dict[str, int] = {}
    voids: list[Voided] = []
    for kind, stage in before.items():
        if effect.does_keep(kind):
            after[kind] = stage
            continue
        narrower = [k for k in effect.keeps if fnmatchcase(k, kind)]
        after.update(dict.fromkeys(narrower, stage))
        if not effect.does_add(kind):
            but = f", but keeps {', '.join(narrower)}" if narrower else ""
            voids.append(Voided(kind=kind, why=f"measured by stage {stage}, not kept{but}"))
    for pattern in effect.adds:
        for kind in [k for k in after if fnmatchcase(k, pattern)]:
            del after[kind]
        after[pattern] = index
    return after, voids


def _structures(before: tuple[str, ...], effect: Effects) -> tuple[str, ...]:
    kept = tuple(s for s in before if s not in effect.structure_removes)
    return (*kept, *(s for s in effect.structure_adds if s not in kept))


def _leaks(effect: Effects, data: DataCard) -> list[Read]:
    """Uncharged readings of private rows that reach weights, structure, preprocessing or a choice."""
    if not data.private:
        return []
    return [
        r for r in effect.reads if r.split in data.splits and not r.disclosure and not r.private
    ]


_LEAK_MEND = (
    "read them through a private step, bounded sums, public statistics or declared bounds"
)


def _leak_void(leaks: list[Read]) -> Voided:
    said = "; ".join(
        f"reads {r.split} for {', '.join(r.influences)}" + (f" ({r.why})" if r.why else "")
        for r in leaks
    )
    return Voided(kind=EPSILON, why=f"{said} without being charged", mend=_LEAK_MEND)


def _require(item: Requirement, walked: _Walked, recipe: Recipe) -> RequirementPlan | Refusal:
    """Who will measure a required claim, or why the end cannot carry it."""
    where = f"require: {item.kind}"
    kind = item.kind
    alive: list[Contribution] = []
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
        measured = stages[lost[1][-1].stage]
        return Refusal(
            what=f"{stages[by].label} voids {kind}, which {measured.label} measures before it",
            where=where,
            mend=f"audit again after stage {by}, or move stage {by} before stage {measured.index}",
        )
    if not alive:
        return _never_measured(kind, walked, where)
    if item.split is not None:
        on_split = [c for c in alive if item.split in c.splits]
        known = sorted({s for c in alive for s in c.splits})
        if not on_split and all(c.splits for c in alive) and item.split in walked.context.data.splits:
            return Refusal(
                what=f"{kind} is measured on {', '.join(known)}, not on {item.split}",
                where=where,
                mend=f"audit on {item.split}, or require it on {known[0]}",
            )
        alive = on_split or alive
    elif len({c.splits for c in alive}) > 1:
        said = " and ".join(f"stage {c.stage} on {', '.join(c.splits) or 'no split'}" for c in alive)
        return Refusal(
            what=f"ambiguous: {kind} is measured by {said}",
            where=where,
            mend=f"name the split: {{split: {(alive[-1].splits or ('test',))[0]}, bound: ...}}",
        )
    chosen = alive[-1]
    bound = item.bound.text.strip() if item.bound else None
    return RequirementPlan(kind=kind, bound=bound, stage=chosen.stage, by=chosen.by)


def _tainted(item: Requirement, walked: _Walked, where: str) -> Refusal | None:
    splits = [s for s in walked.tainted if item.split in (None, s)]
    if not splits:
        return None
    stage = walked.stages[walked.tainted[splits[0]]]
    why = next(v.why for v in stage.voids if v.kind == EPSILON)
    return Refusal(what=f"{stage.label} voids {EPSILON}: it {why}", where=where, mend=_LEAK_MEND)


def _never_measured(kind: str, walked: _Walked, where: str) -> Refusal:
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


def _total(estimates: list[Estimate]) -> Estimate:
    return Estimate(
        seconds=sum(e.seconds for e in estimates),
        bytes=max((e.bytes for e in estimates), default=0),
        basis="; ".join(dict.fromkeys(e.basis for e in estimates if e.basis)),
    )
