"""The walk over the stages of a recipe: what each reads, adds, keeps and voids."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
)
from assay.claims.capabilities import conflicts, of
from assay.config import Config, dump_part
from assay.errors import AssayError, did_you_mean
from assay.files import read_json

if TYPE_CHECKING:
    from assay.claims import Claim
    from assay.claims.passport import Passport
    from assay.recipe.schema import Recipe

#: the kind that an uncharged reading of private rows voids
EPSILON = "privacy.epsilon"
#: the way out of such a reading
LEAK_MEND = "read them through a private step, bounded sums, public statistics or declared bounds"

_GIVES_BY_MODALITY = {
    "text": "token_inputs",
    "tabular": "feature_inputs",
    "image": "pixel_inputs",
}


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
        model: card of the model that takes the place of the one that came in, if one does.
        estimate: what it will cost, roughly.
    """

    index: int
    name: str
    config: Any
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
    model: ModelCard | None = None
    estimate: Estimate = Estimate()

    @property
    def label(self) -> str:
        """`stage 2 (merge)`."""
        return f"stage {self.index} ({self.name})"


class Contribution(Config):
    """One measurement of some kinds of claim within a stage."""

    stage: int
    by: str
    adds: tuple[str, ...]
    splits: tuple[str, ...]

    def does_add(self, kind: str) -> bool:
        """Whether it measures that kind."""
        return any(fnmatchcase(kind, pattern) for pattern in self.adds)


class Walked(Config):
    """What the walk over the stages found."""

    stages: tuple[StagePlan, ...]
    effects: tuple[Effects, ...]
    contributions: tuple[Contribution, ...]
    tainted: dict[str, int]
    carried: dict[str, int]
    context: PlanContext


def start(recipe: Recipe) -> tuple[PlanContext, list[Contribution]]:
    """What is known before the first stage: a base model of ours brings structures and claims."""
    context = recipe.context()
    folder = _base_folder(recipe)
    if folder is None:
        return context, []
    from assay.claims.passport import Passport

    passport, _ = Passport.read(folder)
    raw = read_json(folder / "config.json").get("structures", [])
    structures = tuple(name for item in raw if isinstance(item, dict) for name in item)
    inherited = [
        Contribution(
            stage=stage,
            by="inherited",
            adds=(claim.kind,),
            splits=(claim.split,) if claim.split else (),
        )
        for claim, stage, carried in _inherited(passport)
        if carried
    ]
    carried = {c.adds[0]: c.stage for c in inherited}
    return context.model_copy(update={"structures": structures, "carried": carried}), inherited


def _base_folder(recipe: Recipe) -> Path | None:
    """The folder of the base model, where it is one of ours with a passport."""
    name = recipe.model.name
    if recipe.model.architecture() is not None or name.startswith("hf:"):
        return None
    folder = recipe.model.folder(recipe.base)
    return folder if folder is not None and (folder / "head.json").is_file() else None


def _inherited(passport: Passport) -> list[tuple[Claim, int, bool]]:
    """The base model's current claims, its stages numbered as this run will see them."""
    last = len([s for s in passport.stages() if s.number >= 0])
    return [(claim, stage - last, carried) for claim, stage, carried in passport.current()]


def walk(
    recipe: Recipe, start: PlanContext, inherited: list[Contribution], refusals: list[Refusal]
) -> Walked:
    """Walk over the stages.

    Args:
        recipe: the recipe.
        start: what is known before the first stage.
        inherited: what the base model's passport carries.
        refusals: what was refused so far; what is found is added. Where model, data and task do
            not fit, what their misfit breaks further on is not listed.
    """
    fits = not refusals
    stages: list[StagePlan] = []
    effects: list[Effects] = []
    contributions = list(inherited)
    tainted: dict[str, int] = {}
    context = start
    for index, stage in enumerate(recipe.stages):
        effect, estimate, made, found = _ask(stage, context, fits)
        if index == 0 and fits:
            # preprocessing is fitted when the model is built: no stage declares that reading
            before = tuple(
                read.model_copy(update={"private": start.data.noised})
                for read in recipe.model.reads(recipe.base, recipe.data, recipe.task)
            )
            effect = effect.model_copy(update={"reads": (*before, *effect.reads)})
        refusals.extend(found)
        contributions.extend(made)
        leaks = _leaks(effect, start.data)
        for read in leaks:
            tainted.setdefault(read.split, index)
        carried, voids = _carry(context.carried, effect, index)
        if tainted:
            carried = {k: v for k, v in carried.items() if not fnmatchcase(EPSILON, k)}
        if leaks:
            voids = [v for v in voids if v.kind != EPSILON] + [_leak_void(leaks)]
        structures = _structures(context.structures, effect)
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
                keeps=tuple(k for k in carried if k in context.carried and not effect.does_add(k)),
                voids=tuple(voids),
                structure_adds=effect.structure_adds,
                structure_removes=effect.structure_removes,
                structures=structures,
                notes=effect.notes,
                model=effect.model,
                estimate=estimate,
            )
        )
        after = {"structures": structures, "model": effect.model or context.model}
        context = context.model_copy(update={"stage": index + 1, "carried": carried, **after})
    return Walked(
        stages=tuple(stages),
        effects=tuple(effects),
        contributions=tuple(contributions),
        tainted=tainted,
        carried=context.carried,
        context=context,
    )


def _ask(
    stage: Any, context: PlanContext, fits: bool
) -> tuple[Effects, Estimate, list[Contribution], list[Refusal]]:
    """What a stage declares, and what of it cannot be; nothing, where it cannot say."""
    where = f"stages[{context.stage}].{stage.part_name}"
    try:
        effect: Effects = stage.effects(context)
        refusals = _absent_splits(effect, context.data, where)
        if fits:
            # the parts of a stage train the model that it ends with
            here = context.model_copy(update={"model": effect.model or context.model})
            refusals += _conflicts(stage, here, where)
        return effect, stage.estimate(context), _contributions(stage, effect, context), refusals
    except AssayError as error:
        at = f"{where}.{error.where}" if error.where else where
        refusal = Refusal(what=error.what, where=at, mend=error.mend or "")
        return Effects(), Estimate(), [], [refusal]


def _conflicts(stage: Any, context: PlanContext, where: str) -> list[Refusal]:
    """What in the stage, its parts and its surroundings cannot go together."""
    declared = [(stage.part_name, stage.capabilities(context))]
    declared += [(name, of(part, context)) for name, part in stage.parts()]
    declared += _surroundings(context)
    return [r.model_copy(update={"where": where}) for r in conflicts(declared)]


def _absent_splits(effect: Effects, data: DataCard, where: str) -> list[Refusal]:
    """Readings of splits that the data will not have."""
    absent = [split for split in _splits(effect.reads) if split not in data.splits]
    return [
        Refusal(
            what=f"reads the split {split!r}, which {data.name} does not have",
            where=where,
            mend=did_you_mean(split, data.splits),
        )
        for split in absent
    ]


def _splits(reads: Iterable[Read]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(read.split for read in reads))


def _contributions(stage: Any, effect: Effects, context: PlanContext) -> list[Contribution]:
    """Who in the stage measures what, on which splits: its audits one by one, else the stage."""
    name = stage.part_name
    found = []
    for part_name, part in stage.parts():
        if hasattr(part, "adds") and hasattr(part, "reads"):
            by = f"{name}: {part_name}"
            adds, reads = part.adds(context), part.reads(context)
            found.append(_contribution(context.stage, by, adds, reads))
    rest = tuple(a for a in effect.adds if not any(c.does_add(a) for c in found))
    if rest:
        found.append(_contribution(context.stage, name, rest, effect.reads))
    return found


def _contribution(
    stage: int, by: str, adds: tuple[str, ...], reads: tuple[Read, ...]
) -> Contribution:
    splits = _splits(r for r in reads if "claims" in r.influences)
    return Contribution(stage=stage, by=by, adds=adds, splits=splits)


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
    """Uncharged readings of private rows that reach the model or a choice."""
    if not data.private:
        return []
    return [
        r for r in effect.reads if r.split in data.splits and not r.disclosure and not r.private
    ]


def _leak_void(leaks: list[Read]) -> Voided:
    said = "; ".join(
        f"reads {r.split} for {', '.join(r.influences)}" + (f" ({r.why})" if r.why else "")
        for r in leaks
    )
    return Voided(kind=EPSILON, why=f"{said} without being charged", mend=LEAK_MEND)


def _surroundings(context: PlanContext) -> list[tuple[str, Capabilities]]:
    """What task, model and data declare."""
    model, data, task = context.model, context.data, context.task
    gives = set()
    built = registry.parts("architecture").get(model.architecture)
    if built is None or getattr(built, "linear", True):
        gives.add("linear_layers")
    if model.modality in _GIVES_BY_MODALITY:
        gives.add(_GIVES_BY_MODALITY[model.modality])
    if model.modality in ("text", "image"):
        gives.add("inner_maps")
    if model.pretrained:
        gives.add("pretrained")
    given = set()
    if "valid" in data.splits:
        given.add("valid_split")
    if data.label is not None:
        given.add("labels")
    return [
        (f"task {task.part_name}", of(task, context)),
        (f"model {model.name}", Capabilities(gives=frozenset(gives))),
        (f"data {data.name}", Capabilities(gives=frozenset(given))),
    ]
