"""Whether the data, once they are opened, have what the stages were planned to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.claims import PlanContext
from assay.errors import LoadError

if TYPE_CHECKING:
    from assay.data.dataset import Dataset
    from assay.recipe.plan import Plan
    from assay.recipe.schema import Recipe


def check_splits(recipe: Recipe, plan: Plan, dataset: Dataset) -> None:
    """Refuse data without rows that a stage needs, before anything is trained.

    Which splits a file brings along is known only when it is read: a plan takes them for given.

    Raises:
        LoadError: names the split and the stage.
    """
    there = [name for name in dataset.splits if dataset.size(name)]
    structures: tuple[str, ...] = ()
    model = plan.model
    for stage, planned in zip(recipe.stages, plan.stages, strict=True):
        context = PlanContext(
            model=model,
            data=dataset.card,
            task=recipe.task,
            structures=structures,
            stage=planned.index,
            stages=recipe.stages,
        )
        steering = [read for read in planned.reads if not read.disclosure]
        for read in (*stage.effects(context).reads, *steering):
            if read.split not in there:
                raise LoadError(
                    f"the split {read.split!r} has no rows, and {planned.label} needs some "
                    f"({read.why})",
                    where=f"data {dataset.card.name}",
                    mend=f"give it rows, or use one of: {', '.join(there)}",
                )
        structures, model = planned.structures, planned.model or model
