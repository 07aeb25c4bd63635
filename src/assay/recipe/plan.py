"""What a recipe would do: its stages, what they read and move, and which claims survive them.

Static: configs and cards only. No data are opened, no network is built, nothing heavy is imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from assay.claims import DataCard, Estimate, ModelCard, PlanContext, Refusal
from assay.config import Config, dump
from assay.errors import UsageError
from assay.recipe.required import RequirementPlan, measured_by
from assay.recipe.walk import EPSILON, StagePlan, Voided, start, walk

if TYPE_CHECKING:
    from assay.recipe.deep import DeepPlan
    from assay.recipe.schema import Recipe

__all__ = [
    "EPSILON",
    "Plan",
    "PlanError",
    "RequirementPlan",
    "StagePlan",
    "Voided",
    "plan",
]


class PlanError(UsageError):
    """The recipe cannot do what it says or requires.

    Args:
        refusals: all reasons; the first is the main one.
    """

    def __init__(self, refusals: list[Refusal]) -> None:
        self.refusals = tuple(refusals)
        main = refusals[0]
        super().__init__(main.what, where=main.where or None, mend=main.mend or None)


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


def plan(recipe: Recipe, deep: bool = False) -> Plan:
    """What a recipe would do.

    Args:
        recipe: the recipe.
        deep: build the network on the meta device, count and check it module by module.

    Raises:
        PlanError: it cannot do what it says or requires; all reasons at once.
        AssayError: model or data are not what the recipe says they are.
    """
    before, inherited = start(recipe)
    refusals = list(_fit(before))
    walked = walk(recipe, before, inherited, refusals)
    required = []
    for item in recipe.require:
        found = measured_by(item, walked)
        if isinstance(found, Refusal):
            refusals.append(found)
        else:
            required.append(found)
    if refusals:
        raise PlanError(list(_by_text(refusals)))
    deep_plan: DeepPlan | None = None
    if deep:
        from assay.recipe.deep import deepen

        deep_plan = deepen(recipe, walked.stages)
    return Plan(
        name=recipe.name,
        model=before.model,
        data=before.data,
        task=recipe.task.part_name,
        task_config=dump(recipe.task),
        seed=recipe.seed,
        stages=walked.stages,
        require=tuple(required),
        carries=walked.carried,
        estimate=_total([s.estimate for s in (deep_plan or walked).stages]),
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


def _total(estimates: list[Estimate]) -> Estimate:
    return Estimate(
        seconds=sum(e.seconds for e in estimates),
        bytes=max((e.bytes for e in estimates), default=0),
        basis="; ".join(dict.fromkeys(e.basis for e in estimates if e.basis)),
    )
