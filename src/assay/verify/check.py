"""`assay verify`: read, replay, measure again, judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.claims.passport import HEAD, Passport
from assay.claims.replay import PlacedStage
from assay.claims.signing import load_public_key
from assay.config import build_part
from assay.errors import ArtefactError, AssayError, LoadError, UsageError
from assay.verify.data import Absent, open_data
from assay.verify.findings import Finding, Verification, voided
from assay.verify.measure import Bench, remeasure
from assay.verify.required import judge, requirements_of
from assay.verify.retrain import retrainer

if TYPE_CHECKING:
    from assay.data.dataset import Dataset
    from assay.training.context import Progress

RECIPE = "recipe.yaml"


def verify(
    folder: Path,
    *,
    trust: Path | None = None,
    strict: bool = False,
    data: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    retrain: bool = True,
    tuning: Path | None = None,
) -> Verification:
    """Verify a model's folder, or a run's (then also what its recipe requires).

    First the artefact itself: chain, head, digests, signatures. Then the passport is replayed, and
    every claim that still stands is measured again on the finished model by the stage that made
    it, with the data, seed and threads recorded. No code of the artefact's is executed, and nothing
    is fetched over the network.

    Args:
        folder: a model folder or a run folder.
        trust: file of the public key that must have signed the artefact.
        strict: a claim that cannot be measured here counts as a failure.
        data: where the data of the last run are now, if not where they were.
        threads: intra-op threads (default: as many as the run had; others may change last digits).
        progress: tells the person.
        retrain: train anew for claims about what training gives (resampling audits); without it
            they are `unverifiable`.
        tuning: folder of remembered timings for such trainings.

    Raises:
        LoadError: there is no such folder, or its run has not finished.
        ArtefactError: the artefact is damaged, forged or not trusted (exit 7).
        UsageError: `trust` is no public key, or `data` is given for data that have no path.
    """
    model_folder = _model_folder(folder)
    key = load_public_key(trust) if trust is not None else None
    passport, authenticated = Passport.read(model_folder, key)
    required = requirements_of(folder / RECIPE) if _is_run(folder, model_folder) else None
    if progress is None:
        from assay.training.context import Silent

        progress = Silent()
    if data is not None:
        _check_movable(passport)
    bench = Bench(
        passport=passport,
        model=None,
        data=_opener(passport, model_folder, data),
        threads=threads,
        retrain=retrainer(passport, model_folder, threads, tuning) if retrain else None,
        progress=progress,
    )
    findings = tuple(_findings(bench, model_folder))
    keyid = key.keyid if key is not None else None
    return Verification(
        findings=findings,
        authenticated=authenticated,
        strict=strict,
        required=judge(required, findings, strict) if required is not None else None,
        lines_inherited=sum(signer != keyid for signer in passport.signers) if key else 0,
        signed_by=keyid,
    )


def _model_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise LoadError(
            "no such folder", where=str(folder), mend="name a model folder or a run folder"
        )
    if (folder / "model").is_dir() and not (folder / HEAD).exists():
        return folder / "model"
    if (folder / RECIPE).exists() and not (folder / HEAD).exists():
        raise LoadError(
            "this run has not finished: it holds no model yet",
            where=str(folder),
            mend=f"finish it with: assay run --resume {folder}",
        )
    return folder


def _is_run(folder: Path, model_folder: Path) -> bool:
    return folder != model_folder and (folder / RECIPE).exists()


def _check_movable(passport: Passport) -> None:
    origin = passport.origin
    if origin is not None and origin.data_config.get("path") is None:
        raise UsageError(
            f"the data are the sample {origin.data.name!r}, which comes with assay",
            where="--data",
            mend="leave it out",
        )


def _opener(
    passport: Passport, folder: Path, data: str | None
) -> Callable[[PlacedStage], Dataset | Absent]:
    """Opens the data of each run once; `data` speaks of the last run's."""
    opened: dict[int, Dataset | Absent] = {}
    last = sum(record.origin is not None for record in passport.records) - 1

    def open_for(placed: PlacedStage) -> Dataset | Absent:
        if placed.run not in opened:
            task = build_part("task", placed.origin.task, "task")
            moved = data if placed.run == last else None
            opened[placed.run] = open_data(placed.origin, folder, moved, task)
        return opened[placed.run]

    return open_for


def _load(folder: Path) -> Any:
    """The model, or the reason why it cannot be loaded here."""
    try:
        from assay.models.load import load_model

        return load_model(folder)
    except ArtefactError:
        raise
    except AssayError as error:
        return f"the model cannot be loaded: {error.line()}"
    except ImportError as error:
        return f"the model cannot be loaded: a package is missing: {error.name or error}"


def _findings(bench: Bench, folder: Path) -> list[Finding]:
    """One finding a claim, in the order of the passport."""
    current, placed = bench.passport.replay(), bench.passport.stages()
    names = {one.number: one.record.name for one in placed}
    found = {c.claim.identity(): voided(c, names) for c in current if not c.carried}
    todo = [s for s in placed if any(c.carried and c.stage == s.number for c in current)]
    if todo:
        bench = replace(bench, model=_load(folder))
        for done, stage in enumerate(todo):
            bench.progress.update(done, len(todo), f"measuring stage {stage.number} again")
            mine = [c for c in current if c.carried and c.stage == stage.number]
            found |= {f.claim.identity(): f for f in remeasure(bench, stage, mine)}
        bench.progress.update(len(todo), len(todo), "measured")
    return [found[c.claim.identity()] for c in current]
