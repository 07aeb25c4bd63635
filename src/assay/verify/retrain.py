"""Train anew what a run trained: for claims that speak of a training, not of one model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.claims import PlanContext
from assay.claims.passport import Passport
from assay.claims.records import Origin
from assay.claims.replay import PlacedStage
from assay.config import build, build_part
from assay.errors import LoadError
from assay.verify.data import bases_of
from assay.verify.measure import stage_of, stages_of_run

if TYPE_CHECKING:
    from assay.data.dataset import Dataset
    from assay.models.model import Model
    from assay.training.context import Retrain, RunContext


def retrainer(
    passport: Passport, folder: Path, threads: int | None, tuning: Path | None
) -> Callable[[PlacedStage], Retrain]:
    """For a stage, what makes of another data set the model that the stages before it made.

    Args:
        passport: the artefact's.
        folder: the artefact's folder.
        threads: intra-op threads (None: as many as the run had).
        tuning: folder of remembered timings.
    """

    def for_stage(placed: PlacedStage) -> Retrain:
        stages = passport.stages()
        before = [s for s in stages if s.run == placed.run and s.number < placed.number]
        whole = tuple(stages_of_run(stages, placed.run))

        def retrain(
            dataset: Dataset,
            seed: int,
            start: str,
            *,
            min_steps: int = 0,
            told: Callable[[Mapping[str, Any]], None] | None = None,
        ) -> Model:
            from assay.training.few import run_on_few

            model = _fresh(placed.origin, folder, dataset, seed, start)
            for one in before:
                stage = stage_of(one)
                context = _context(one, model, dataset, seed, whole, threads, tuning)
                if not stage.effects(context.plan).changes_network:
                    continue
                model = run_on_few(stage, model, context, min_steps)
                if told is not None:
                    told(context.used)
            return model

        return retrain

    return for_stage


def _context(
    placed: PlacedStage,
    model: Model,
    dataset: Dataset,
    seed: int,
    whole: tuple[Any, ...],
    threads: int | None,
    tuning: Path | None,
) -> RunContext:
    """What a stage is given when it is run once more."""
    from assay.training.context import RunContext

    return RunContext(
        dataset=dataset,
        plan=PlanContext(
            model=model.card,
            data=dataset.card,
            task=model.task,
            structures=tuple(s.part_name for s in model.structures),
            stage=placed.record.index,
            stages=whole,
        ),
        seed=seed,
        stage=placed.record.index,
        threads=threads or placed.origin.threads,
        tuning=tuning,
        # a choice that the run made by timing can be found here and made again
        used=deepcopy(placed.record.used),
    )


def _fresh(origin: Origin, folder: Path, dataset: Dataset, seed: int, start: str) -> Model:
    """The model that the run began with.

    Raises:
        LoadError: it is not there, was changed, or would have to be fetched.
    """
    from assay.data.door import LocalDoor
    from assay.models.hub import ModelConfig

    mend = "put it where it was, or verify without training anew"
    where = f"model {origin.model.name}"
    config = build(ModelConfig, origin.base, "model")
    bases = bases_of(origin, folder, config.name) or bases_of(origin, folder, None)
    if config.card(bases[0]).remote:
        raise LoadError("the base model is remote: nothing is fetched", where=where, mend=mend)
    task = build_part("task", origin.task, "task")
    scratch = start == "scratch"
    model = config.load(bases[0], task, dataset, seed, door=LocalDoor(), scratch=scratch)
    if model.source_digest is not None and model.source_digest != origin.model_digest:
        raise LoadError("the base model has changed since the run", where=where, mend=mend)
    return model
