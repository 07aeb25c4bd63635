"""What the commands do, apart from parsing and printing."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import LoadError, UsageError
from assay.recipe.progress import progress_for

if TYPE_CHECKING:
    from assay.recipe.compare import Comparison
    from assay.recipe.outcome import Run
    from assay.verify import Verification

_running: Path | None = None


def stopped() -> str:
    """How to go on with the run that was stopped, for the line that says so."""
    return f"; go on with: assay run --resume {_running}" if _running is not None else ""


def prepare(threads: int | None, remote: bool = False) -> None:
    """Set what heavy libraries read when they are imported; call before they are.

    Waiting threads sleep instead of spinning (on a busy machine spinning costs ten times the
    work), and nothing may call home.

    Args:
        threads: intra-op threads; None leaves what the environment says.
        remote: something to be fetched was named, so the network may be used.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if not remote:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = str(threads)


def run(
    recipe: Path | None,
    *,
    started: Callable[[Path], None],
    out: Path | None = None,
    resume: Path | None = None,
    set: tuple[str, ...] = (),
    threads: int | None = None,
    seed: int | None = None,
    sign: Path | None = None,
    allow: tuple[Path, ...] = (),
) -> Run:
    """Run a recipe, or go on with a stopped run.

    Args:
        recipe: the recipe; None takes that of `resume`.
        started: is told the run's folder once data and model are loaded.
        out: the run's folder; by default the next free `runs/<name>/<n>`.
        resume: the folder of a stopped run.
        set: changes `path=value`.
        threads: intra-op threads.
        seed: replaces the recipe's seed.
        sign: file of the private key that signs the passport.
        allow: Python files that the recipe may run.

    Raises:
        AssayError: see `assay.errors`.
    """
    global _running
    from assay.recipe.schema import Recipe

    if out is not None and resume is not None:
        raise UsageError("--out and --resume exclude each other", mend="leave out --out")
    file = recipe if recipe is not None else _written_recipe(resume)
    written = recipe is None
    loaded = Recipe.load(file, set=set, seed=seed, allow=allow, resolved=written)
    plan = loaded.plan()
    prepare(
        _threads_before(resume) if resume is not None else threads,
        remote=plan.model.remote or plan.data.remote,
    )
    from assay.recipe.run import run as run_recipe

    def begin(folder: Path) -> None:
        global _running
        _running = folder
        started(folder)

    _running = resume
    progress = progress_for()
    try:
        done = run_recipe(
            loaded,
            out=out,
            resume=resume,
            threads=threads,
            sign=sign,
            progress=progress,
            allow=allow,
            started=begin,
        )
    except BaseException:
        if _running is not None and not (_running / "recipe.yaml").exists():
            _running = None
        raise
    finally:
        progress.close()
    _running = None
    return done


def _written_recipe(resume: Path | None) -> Path:
    """The recipe that a run wrote into its folder."""
    if resume is None:
        raise UsageError("no recipe is named", mend="write: assay run RECIPE")
    file = resume / "recipe.yaml"
    if not file.is_file():
        raise UsageError(
            "no run to go on with: there is no recipe.yaml",
            where=str(resume),
            mend="name the folder of a run",
        )
    return file


def _threads_before(resume: Path) -> int | None:
    """The threads that a stopped run began with, where they are not this machine's default.

    With the default its libraries read their own settings, and must do so again.
    """
    from assay.recipe.state import RunFolder
    from assay.recipe.surroundings import default_threads

    folder = RunFolder(resume)
    # a folder without it is refused by the run itself
    found: int | None = folder.environment()["threads"] if folder.described else None
    return found if found != default_threads() else None


def verify(
    folder: Path,
    *,
    strict: bool,
    trust: Path | None,
    data: str | None,
    threads: int | None,
    allow: tuple[Path, ...],
) -> Verification:
    """Verify a model or a run.

    Raises:
        AssayError: see `assay.verify.verify`.
    """
    from assay import registry

    for file in allow:
        registry.load_user_file(file, allowed=True)
    prepare(threads)
    from assay.recipe.surroundings import tuning_folder
    from assay.verify import verify as check

    progress = progress_for()
    try:
        return check(
            folder,
            trust=trust,
            strict=strict,
            data=data,
            threads=threads,
            progress=progress,
            tuning=tuning_folder(),
        )
    finally:
        progress.close()


def predict(model: Path, input_: Path, out: Path, threads: int | None) -> dict[str, Any]:
    """Predict for the rows of a file: by the exported network where there is one, without torch.

    Returns:
        `out`, `rows` and `engine` (`onnxruntime` or `torch`).

    Raises:
        AssayError: model or input cannot be loaded, or the output cannot be written.
    """
    from assay.models.predictions import SUFFIXES, as_table

    if out.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"cannot write predictions as {out.suffix or 'a file without an ending'}",
            where=str(out),
            mend="name a file that ends in " + ", ".join(SUFFIXES),
        )
    if not input_.exists():
        raise LoadError("no such file", where=str(input_), mend="correct the path")
    if out.exists() and out.samefile(input_):
        raise UsageError(
            "the output would replace the input", where=str(out), mend="name another file"
        )
    folder = _model_folder(model)
    prepare(threads)
    table = as_table(input_)
    engine, predictor = _predictor(folder, threads)
    predictions = predictor.predict(table)
    named = _id_column(folder)
    if named in table.column_names:
        predictions = replace(predictions, ids=table[named].to_pylist())
    predictions.write(out)
    return {"out": str(out), "rows": len(predictions), "engine": engine}


def _model_folder(path: Path) -> Path:
    """The model's folder, found without importing what loads it."""
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file() and (folder / "head.json").is_file():
            return folder
    raise LoadError(
        "neither a model nor a run that has finished" if path.is_dir() else "no such folder",
        where=str(path),
        mend="name a folder with config.json and head.json, or a run that holds model/",
    )


def _predictor(folder: Path, threads: int | None) -> tuple[str, Any]:
    """What predicts: the exported network where there is one and a runtime for it."""
    from assay.deploy.runtime import OnnxPredictor, exported
    from assay.recipe.doctor import cores, has_module

    if exported(folder) is not None and has_module("onnxruntime"):
        return "onnxruntime", OnnxPredictor(folder, threads or cores())
    from assay.models.load import load_model

    return "torch", load_model(folder)


def _id_column(folder: Path) -> str | None:
    """The column that named the rows of the data the model was made from."""
    from assay.claims.passport import Passport

    origin = Passport.read(folder)[0].origin
    return origin.data_config.get("id") if origin is not None else None


def compare(
    a: Path,
    b: Path,
    *,
    split: str | None,
    data: str | None,
    html: Path | None = None,
    threads: int | None,
) -> Comparison:
    """Compare two models on the same rows, and write a page of it to `html`, where one is given.

    Raises:
        AssayError: they are not of one task and one data set, or cannot be loaded.
    """
    prepare(threads)
    from assay.recipe.compare import compare as compare_models

    found = compare_models(a, b, split=split, data=data)
    if html is not None:
        from assay.report.comparison import write_comparison

        write_comparison(found.as_json(), html)
    return found


def report(folder: Path) -> Path:
    """Write the page and the card of a run again; returns the path of the page.

    Raises:
        AssayError: it is no run folder, its run has not finished, or a file of it is damaged.
    """
    from assay.recipe.state import RunFolder
    from assay.report.bom import write_bom
    from assay.report.card import write_card
    from assay.report.page import write_report

    run = RunFolder(folder)
    if run.described and not run.read_state().finished:
        raise LoadError(
            "this run has not finished: there is nothing to report yet",
            where=str(folder),
            mend=f"finish it with: assay run --resume {folder}",
        )
    write_card(folder)
    write_bom(folder)
    return write_report(folder)
