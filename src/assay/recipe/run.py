"""Run a recipe, or go on with a run that was stopped."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay import files
from assay.claims import PlanContext
from assay.claims.passport import Passport
from assay.claims.records import StageRecord
from assay.config import dump
from assay.errors import ArtefactError, LoadError, UsageError
from assay.privacy.door import charged
from assay.privacy.naming import digest_of
from assay.recipe import budget
from assay.recipe.fit import check_splits
from assay.recipe.origin import origin_of
from assay.recipe.outcome import Run, said, statuses
from assay.recipe.plan import plan as make_plan
from assay.recipe.state import RunFolder, State, open_folder
from assay.recipe.surroundings import default_threads, environment, tuning_folder

if TYPE_CHECKING:
    from assay.claims.signing import Signer
    from assay.data.dataset import Dataset
    from assay.models.model import Model
    from assay.privacy.randomness import Stream
    from assay.recipe.plan import Plan
    from assay.recipe.schema import Recipe
    from assay.training.context import Progress, RunContext


def run(
    recipe: Recipe | None,
    *,
    out: Path | None = None,
    resume: Path | None = None,
    threads: int | None = None,
    sign: Path | None = None,
    progress: Progress | None = None,
    allow: tuple[Path, ...] = (),
    started: Callable[[Path], None] = lambda folder: None,
) -> Run:
    """Run a recipe.

    Args:
        recipe: what to do; may be None with `resume` (the folder knows).
        out: the run's folder (default `runs/<name>/<n>` under the current folder).
        resume: the folder of a run that was stopped; nothing of it is done twice.
        threads: intra-op threads (default: the cores this process may use, at most 8).
        sign: file of an Ed25519 private key that signs the passport.
        progress: is told how far it is.
        allow: Python files that a resumed recipe may use.
        started: is told the run's folder once data and model are loaded.

    Raises:
        AssayError: see `assay.errors`; nothing is left of a run whose data or model cannot be
            loaded, and of one that fails later what `resume` goes on with.
    """
    from assay.training.context import Silent

    progress = progress or Silent()
    if resume is not None:
        recipe = _same_recipe(recipe, resume, allow)
    if recipe is None:
        raise UsageError("no recipe", mend="name one, or --resume a run")
    # what cannot be trained privately is found before anything is charged
    private = recipe.context().data.private
    plan = make_plan(recipe, deep=private).model_copy(update={"deep": None})
    signer = _signer(sign)
    folder = RunFolder(resume) if resume is not None else open_folder(out, recipe.name)
    with folder.locked():
        runner = _Runner(recipe, plan, folder, threads, signer, progress)
        if resume is not None:
            return runner.run(started)
        try:
            runner.describe()
            return runner.run(started)
        except BaseException:
            folder.forget()
            raise


def _signer(path: Path | None) -> Signer | None:
    if path is None:
        return None
    from assay.claims.signing import load_private_key

    return load_private_key(path)


def _same_recipe(recipe: Recipe | None, folder: Path, allow: tuple[Path, ...]) -> Recipe:
    """The recipe of a stopped run; a recipe given beside it must be the same."""
    from assay.recipe.schema import Recipe

    RunFolder(folder).read_state()
    before = Recipe.load(folder / "recipe.yaml", allow=allow, resolved=True)
    if recipe is None:
        return before
    if recipe.dump() != before.dump():
        changed = sorted(
            key for key, value in recipe.dump().items() if value != before.dump().get(key)
        )
        raise UsageError(
            f"the recipe has changed since this run began ({', '.join(changed)})",
            where=str(folder),
            mend="start a new run, or resume without naming a recipe",
        )
    return recipe


class _Runner:
    """One execution of a recipe in one folder."""

    def __init__(
        self,
        recipe: Recipe,
        plan: Plan,
        folder: RunFolder,
        threads: int | None,
        signer: Signer | None,
        progress: Progress,
    ) -> None:
        self.recipe, self.plan, self.folder = recipe, plan, folder
        self.signer, self.progress = signer, progress
        self.threads = threads or default_threads()
        #: what each finished stage really used; training again makes the same choices
        self._used: dict[int, dict[str, Any]] = {}
        self._receipt: dict[str, Any] = {}
        self._secret: Stream | None = None

    def run(self, started: Callable[[Path], None]) -> Run:
        """All stages that are still to run, the final model, the report."""
        self.folder.sweep()
        state = self.folder.read_state()
        self._check_signer(state)
        self._restore_environment()
        import torch

        torch.set_num_threads(self.threads)
        dataset = self._dataset(state)
        check_splits(self.recipe, self.plan, dataset)
        if dataset.card.private:
            # curves, losses and pictures in it tell of the rows: they are the owner's
            self.folder.path.chmod(0o700)
        if state.done < len(self.recipe.stages):
            self._secret = budget.secret_of(dataset, self.folder.secret)
            self._receipt = budget.reserve(self.recipe, dataset, self._secret)
        sizes = {split: dataset.size(split) for split in dataset.splits}
        files.write_json(
            self.folder.path / "plan.json", {**self.plan.as_json(), "split_rows": sizes}
        )
        if state.done < len(self.recipe.stages):
            model = self._base(state, dataset)
            self.folder.write_state(state)
        started(self.folder.path)
        self.progress.say(f"run: {self.folder.path}")
        if state.done < len(self.recipe.stages):
            for index in range(state.done, len(self.recipe.stages)):
                model = self._stage(index, model, dataset, state)
        if not state.finished:
            self._conclude(state)
        if self._secret is not None:
            self._secret.destroy()
        shutil.rmtree(self.folder.path / "checkpoints", ignore_errors=True)
        return self._result()

    # -- before the stages ------------------------------------------------------------------

    def _check_signer(self, state: State) -> None:
        keyid = self.signer.keyid if self.signer is not None else ""
        if state.keyid and keyid != state.keyid:
            raise UsageError(
                f"this run began with the signing key {state.keyid[:16]}",
                where=str(self.folder.path),
                mend="give it again with --sign",
            )
        state.keyid = keyid

    def _restore_environment(self) -> None:
        before = self.folder.environment()
        if self.threads != before["threads"]:
            self.progress.say(
                f"threads: {before['threads']}, as when the run began "
                "(another number would give other bits)"
            )
        self.threads = before["threads"]

    def _dataset(self, state: State) -> Dataset:
        dataset = self.recipe.data.load(self.recipe.base, self.recipe.task)
        digest = digest_of(dataset)
        if state.data_digest and digest != state.data_digest:
            raise UsageError(
                f"the data {dataset.name} have changed since this run began",
                where=str(self.folder.path),
                mend="restore them, or start a new run",
            )
        state.data_digest = digest
        if dataset.left_out:
            self.progress.say(f"left out: {dataset.left_out:,} rows whose pictures do not decode")
        return dataset

    def describe(self) -> None:
        """Write what the run is, before it does anything."""
        self.folder.describe(
            self.recipe.to_yaml().encode(),
            environment(self.threads, self.recipe.seed),
            self.plan.as_json(),
        )

    def _base(self, state: State, dataset: Dataset) -> Model:
        """The model before the first stage that is still to run."""
        if state.done:
            from assay.models.load import load_model

            path = self.folder.stage_model(state.done - 1)
            try:
                model = load_model(path)
            except (ArtefactError, LoadError) as error:
                self.progress.say(f"{error.what} ({path}); going back to the first stage")
                state.done = state.metrics = 0
            else:
                own = [s.record for s in model.passport.stages() if s.number >= 0]
                self._used = {record.index: dict(record.used) for record in own}
                return model
        asked = budget.questions(self.recipe, dataset)
        door = budget.door_of(self.recipe, dataset, self._secret, "model", asked)
        model = self._fresh(dataset, self.recipe.seed, "pretrained", door)
        digest = model.subject()
        if state.model_digest and digest != state.model_digest:
            raise UsageError(
                f"the model {model.card.name} is not what it was when this run began",
                where=str(self.folder.path),
                mend="restore it, or start a new run",
            )
        state.model_digest = digest
        inherited = model.passport if model.passport.origin is not None else None
        origin = origin_of(self.recipe, model, dataset, self.threads, charged(door), self._receipt)
        return model.with_passport((inherited or Passport()).append(origin))

    def _fresh(self, dataset: Dataset, seed: int, start: str, door: Any = None) -> Model:
        from assay.data.door import LocalDoor

        recipe, scratch = self.recipe, start == "scratch"
        return recipe.model.load(
            recipe.base, recipe.task, dataset, seed, door=door or LocalDoor(), scratch=scratch
        )

    # -- a stage ----------------------------------------------------------------------------

    def _context(self, index: int, model: Model, dataset: Dataset, state: State) -> RunContext:
        from assay.training.context import MetricsLog, RunContext

        log = MetricsLog(self.folder.metrics, start=state.metrics)
        work = self.folder.stage_work(index)
        work.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not any(work.iterdir()):
            log.cut(state.metrics)
        return RunContext(
            dataset=dataset,
            plan=plan_context(self.recipe, model, dataset, index),
            seed=self.recipe.seed,
            stage=index,
            threads=self.threads,
            work=work,
            folder=self.folder.path,
            metrics=log,
            progress=self.progress,
            door=budget.door_of(self.recipe, dataset, self._secret, f"stage {index}"),
            secret=self._secret.derive(f"stage {index}") if self._secret is not None else None,
            retrain=partial(self._retrain, index),
            tuning=tuning_folder(),
        )

    def _stage(self, index: int, model: Model, dataset: Dataset, state: State) -> Model:
        stage = self.recipe.stages[index]
        self.progress.say(f"stage {index + 1} of {len(self.recipe.stages)}: {stage.part_name}")
        start = time.monotonic()
        context = self._context(index, model, dataset, state)
        effects = stage.effects(context.plan)
        after: Model = stage.run(model, context)
        if sums := charged(context.door):
            context.record(charged=list(sums))
        self._used[index] = context.used
        same = after.network is model.network
        before = self.folder.stage_model(index - 1) if index and same else None
        record = StageRecord(
            index=index,
            name=stage.part_name,
            config=dump(stage),
            effects=effects,
            used=context.used,
            subject=after.subject(),
        )
        after = after.with_passport(model.passport.with_stage(record, context.claims))
        written = after.save(self.folder.stage_model(index), self.signer, like=before)
        for name, value in context.evidence.items():
            (self.folder.path / "evidence").mkdir(exist_ok=True)
            files.write_json(self.folder.path / "evidence" / f"{index}-{name}.json", value)
        state.done, state.metrics = index + 1, context.metrics.sync()
        self.folder.write_state(state)
        for ended in context.ended:
            ended()
        seconds = round(time.monotonic() - start, 3)
        self.folder.append("timings.jsonl", {"stage": index, "seconds": seconds})
        shutil.rmtree(self.folder.stage_work(index), ignore_errors=True)
        if index > 0:
            shutil.rmtree(self.folder.stage_model(index - 1), ignore_errors=True)
        for claim in context.claims:
            self.progress.say(f"  {said(claim)}")
        return after.with_passport(written).relocated(self.folder.stage_model(index))

    def _retrain(
        self,
        upto: int,
        dataset: Dataset,
        seed: int,
        start: str,
        *,
        min_steps: int = 0,
        told: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> Model:
        """What the stages before `upto` make of another data set, in memory."""
        from assay.training.few import run_on_few

        model: Model = self._fresh(dataset, seed, start)
        for index, stage in enumerate(self.recipe.stages[:upto]):
            context = again(self.recipe, model, dataset, index, seed, self.threads)
            context.used = dict(self._used.get(index, {}))
            if not stage.effects(context.plan).changes_network:
                continue
            model = run_on_few(stage, model, context, min_steps)
            if told is not None:
                told(context.used)
        return model

    # -- after the stages -------------------------------------------------------------------

    def _conclude(self, state: State) -> None:
        from assay.models.model import swap_folders

        last = self.folder.stage_model(len(self.recipe.stages) - 1)
        if last.is_dir():
            swap_folders(last, self.folder.model)
        passport, _ = Passport.read(self.folder.model)
        files.write_json(self.folder.path / "claims.json", statuses(passport, self.recipe.require))
        from assay.report.bom import write_bom
        from assay.report.card import write_card
        from assay.report.page import write_report

        write_card(self.folder.path)
        write_bom(self.folder.path)
        write_report(self.folder.path)
        state.finished = True
        self.folder.write_state(state)

    def _result(self) -> Run:
        path = self.folder.path
        claims = files.read_json(path / "claims.json")
        misses = [r["line"] for r in claims["require"] if not r["ok"]]
        return Run(path, path / "report.html", claims, 3 if misses else 0, misses)


def plan_context(recipe: Recipe, model: Model, dataset: Dataset, index: int) -> PlanContext:
    """What a stage's declarations may depend on, with what is really there."""
    return PlanContext(
        model=model.card,
        data=dataset.card,
        task=recipe.task,
        structures=tuple(s.part_name for s in model.structures),
        stage=index,
        stages=recipe.stages,
    )


def again(
    recipe: Recipe, model: Model, dataset: Dataset, index: int, seed: int, threads: int
) -> RunContext:
    """A context that keeps nothing on disk and tells nobody."""
    from assay.training.context import RunContext

    return RunContext(
        dataset=dataset,
        plan=plan_context(recipe, model, dataset, index),
        seed=seed,
        stage=index,
        threads=threads,
        tuning=tuning_folder(),
    )
