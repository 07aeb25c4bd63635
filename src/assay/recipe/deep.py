"""`plan --deep`: the real network, built without weights, and what each stage moves in it.

This is the only part of a plan that imports torch. Nothing is trained; data are opened only where
the network's shape depends on them, and never when they are private.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from assay.claims import Estimate, PlanContext, Refusal
from assay.config import Config, build_part
from assay.errors import AssayError
from assay.files import read_json

if TYPE_CHECKING:
    from assay.data.dataset import Dataset
    from assay.models.architecture import Architecture
    from assay.models.hub import ModelConfig
    from assay.models.model import Model
    from assay.recipe.plan import StagePlan
    from assay.recipe.schema import Recipe


class Module(Config):
    """One module that has parameters of its own.

    Attributes:
        name: its path in the network.
        type: its class.
        parameters: number of its own parameters.
        shapes: shape of each, by name.
    """

    name: str
    type: str
    parameters: int
    shapes: dict[str, tuple[int, ...]]


class DeepStage(Config):
    """A stage in the real network.

    Attributes:
        index: its place in the recipe.
        total: number of parameters after it prepared the network.
        moving: how many of them it moves; None where the stage trains nothing.
        estimate: of its cost, from the real numbers.
    """

    index: int
    total: int
    moving: int | None = None
    estimate: Estimate = Estimate()


class DeepPlan(Config):
    """What the real network adds to a plan.

    Attributes:
        modules: of the network before the first stage.
        parameters: their number of parameters.
        stages: in order.
        notes: what could not be known.
    """

    modules: tuple[Module, ...]
    parameters: int
    stages: tuple[DeepStage, ...]
    notes: tuple[str, ...] = ()

    def stage_lines(self, index: int) -> list[str]:
        """A stage's part, for a person."""
        from assay.recipe.show import cost

        stage = self.stages[index]
        if stage.moving is None:
            return [f"deep     {stage.total:,} parameters"]
        share = stage.moving / stage.total if stage.total else 0.0
        return [
            f"deep     {stage.moving:,} of {stage.total:,} parameters move ({share:.2%}), "
            + cost(stage.estimate)
        ]

    def module_lines(self) -> list[str]:
        """The network, for a person."""
        lines = [f"network: {self.parameters:,} parameters in {len(self.modules)} modules"]
        lines += [f"  note: {note}" for note in self.notes]
        for module in self.modules:
            shapes = ", ".join(f"{n} {list(s)}" for n, s in module.shapes.items())
            lines.append(f"  {module.name}  {module.type}  {module.parameters:,}: {shapes}")
        return lines


def deepen(recipe: Recipe, stages: Sequence[StagePlan]) -> DeepPlan:
    """Build the network on the meta device and let every stage prepare it.

    Raises:
        PlanError: a stage does not fit the real network; all reasons at once.
        AssayError: the network cannot be built, or the data that shape it cannot be opened.
    """
    import torch

    from assay.recipe.plan import PlanError

    with torch.device("meta"):
        model, context, notes = _build(recipe)
        modules = tuple(_modules(model.network))
        parameters = model.parameter_count()
        found: list[DeepStage] = []
        refusals: list[Refusal] = []
        for stage, planned in zip(recipe.stages, stages, strict=True):
            try:
                other = stage.builds()
                if other is not None:
                    card = planned.model or context.model
                    context = context.model_copy(update={"model": card})
                    model, more = _network(other, recipe, context)
                    notes += [note for note in more if note not in notes]
                model, deep = _stage(stage, planned, model, context)
                found.append(deep)
            except AssayError as error:
                where = f"stages[{planned.index}].{planned.name}"
                at = f"{where}.{error.where}" if error.where else where
                refusals.append(Refusal(what=error.what, where=at, mend=error.mend or ""))
    if refusals:
        raise PlanError(refusals)
    return DeepPlan(modules=modules, parameters=parameters, stages=tuple(found), notes=tuple(notes))


def _stage(
    stage: Any, planned: StagePlan, model: Model, context: PlanContext
) -> tuple[Model, DeepStage]:
    """The model as a stage prepares it, and what moves in it."""
    from dataclasses import replace

    moving: int | None = None
    for structure in stage.structures():
        network = structure.apply(model.network)
        model = replace(model, network=network, structures=(*model.structures, structure))
    for _, part in stage.parts():
        if hasattr(part, "prepare") and hasattr(part, "select"):
            model = part.prepare(model, 0)
            chosen = set(part.select(model))
            named = model.network.named_parameters()
            moving = 0
            for name, parameter in named:
                parameter.requires_grad_(name in chosen)
                moving += parameter.numel() if name in chosen else 0
    for _, part in stage.parts():
        if moving is not None and hasattr(part, "check"):
            part.check(model.network)
    total = model.parameter_count()
    here = context.model_copy(
        update={
            "stage": planned.index,
            "structures": planned.structures,
            "model": context.model.model_copy(update={"parameters": total}),
        }
    )
    deep = DeepStage(index=planned.index, total=total, moving=moving, estimate=stage.estimate(here))
    if planned.structure_removes:
        model = _without(model, planned.structure_removes)
    return model, deep


def _without(model: Model, removed: tuple[str, ...]) -> Model:
    from dataclasses import replace

    from assay.models.load import assemble

    structures = tuple(s for s in model.structures if s.part_name not in removed)
    network = assemble(model.architecture, structures)
    return replace(model, network=network, structures=structures)


def _build(recipe: Recipe) -> tuple[Model, PlanContext, list[str]]:
    """The network before the first stage, what is known of it, and what is not."""
    context = recipe.context()
    model, notes = _network(recipe.model, recipe, context)
    return model, context, notes


def _network(config: ModelConfig, recipe: Recipe, context: PlanContext) -> tuple[Model, list[str]]:
    """The network that a `model:` means, for the recipe's task and data, and what is not known."""
    from assay.models.load import assemble
    from assay.models.model import Model

    architecture, structures = _architecture(config, recipe)
    dataset, notes = _dataset(recipe, context, architecture)
    if dataset is not None:
        context = context.model_copy(update={"data": dataset.card})
    classes: tuple[str, ...] | None = None
    if recipe.task.outputs(None) == 0:
        number = context.data.classes or 2
        classes = dataset.classes if dataset else tuple(str(i) for i in range(number))
    if not structures:
        if dataset is not None and architecture.inputs_from_data:
            inputs = _width(dataset)
            architecture = architecture.model_copy(update={"inputs": inputs})
        from assay.models.loading import head_of

        structures = (head_of(config, architecture, recipe.task.outputs(classes)),)
    model = Model(
        network=assemble(architecture, structures),
        architecture=architecture,
        structures=structures,
        task=recipe.task,
        preprocessing=None,  # type: ignore[arg-type]  # nothing is predicted here
        classes=classes,
        card=context.model,
    )
    return model, notes


def _architecture(config: ModelConfig, recipe: Recipe) -> tuple[Architecture, tuple[Any, ...]]:
    """The trunk, and the structures it comes with (none where it gets a new head)."""
    from assay.models.loading import _source, pretrained_architecture

    architecture = config.architecture()
    if architecture is not None:
        return architecture, ()
    source = _source(config, recipe.base)
    if not (source / "head.json").is_file():
        return config.scaled(pretrained_architecture(source)), ()
    saved = read_json(source / "config.json")
    structures = tuple(build_part("structure", item) for item in saved["structures"])
    return build_part("architecture", saved["architecture"]), structures


def _dataset(
    recipe: Recipe, context: PlanContext, architecture: Architecture
) -> tuple[Dataset | None, list[str]]:
    """The data, where the network's shape depends on them and they may be looked at."""
    unknown = []
    if architecture.inputs_from_data:
        unknown.append("the number of features")
    if context.data.classes is None and recipe.task.outputs(None) == 0:
        unknown.append("the number of classes")
    if not unknown:
        return None, []
    if context.data.private:
        assumed = " and ".join(unknown)
        return None, [f"the data are private and were not opened: {assumed} is assumed"]
    return recipe.data.load(recipe.base, recipe.task), []


def _width(dataset: Dataset) -> int:
    """Number of features that preprocessing will make of the rows."""
    from assay.data.door import LocalDoor
    from assay.data.preprocessing import fit_tabular

    return int(fit_tabular(dataset, "train", LocalDoor()).width)


def _modules(network: Any) -> list[Module]:
    found = []
    for name, module in network.named_modules():
        shapes = {n: tuple(p.shape) for n, p in module.named_parameters(recurse=False)}
        if shapes:
            count = sum(p.numel() for p in module.parameters(recurse=False))
            found.append(
                Module(name=name, type=type(module).__name__, parameters=count, shapes=shapes)
            )
    return found
