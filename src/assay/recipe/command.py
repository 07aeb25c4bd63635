"""What the commands do, apart from parsing and printing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import LoadError, UsageError
from assay.recipe.progress import progress_for

if TYPE_CHECKING:
    from assay.recipe.compare import Comparison
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
    out: Path | None,
    resume: Path | None,
    set: tuple[str, ...],
    threads: int | None,
    seed: int | None,
    sign: Path | None,
    allow: tuple[Path, ...],
    emit: Callable[[Any], None] | None,
) -> int:
    """Run a recipe, or go on with a stopped run.

    Args:
        recipe: the recipe; None takes that of `resume`.
        emit: is handed plain data instead of lines being printed.

    Returns:
        the exit code: 3 when a required claim does not hold.

    Raises:
        AssayError: see `assay.errors`.
    """
    global _running
    from assay.recipe.schema import Recipe

    if out is not None and resume is not None:
        raise UsageError("--out and --resume exclude each other", mend="leave out --out")
    written = recipe is None
    if recipe is None:
        if resume is None:
            raise UsageError("no recipe is named", mend="write: assay run RECIPE")
        recipe = resume / "recipe.yaml"
        if not recipe.is_file():
            raise UsageError(
                "no run to go on with: there is no recipe.yaml",
                where=str(resume),
                mend="name the folder of a run",
            )
    loaded = Recipe.load(recipe, set=set, seed=seed, allow=allow, resolved=written)
    prepare(threads, remote=loaded.context().model.remote or loaded.context().data.remote)

    def started(folder: Path) -> None:
        global _running
        _running = folder
        if emit is None:
            print(folder / "report.html", flush=True)

    progress = progress_for(sys.stderr, started)
    try:
        result = loaded.run(
            out=out, resume=resume, threads=threads, sign=sign, progress=progress
        )
    finally:
        progress.close()
    _running = None
    if emit is not None:
        emit(
            {
                "folder": str(result.folder),
                "report": str(result.report),
                "exit_code": result.exit_code,
                "claims": result.claims,
            }
        )
    else:
        print(result.report, flush=True)
    return int(result.exit_code)


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
    import assay.verify as room

    progress = progress_for()
    try:
        return room.verify(
            folder, trust=trust, strict=strict, data=data, threads=threads, progress=progress
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
    from assay.models.predictions import SUFFIXES

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
    prepare(threads)
    engine, predictor = _predictor(model, threads)
    predictions = predictor(input_)
    predictions.write(out)
    return {"out": str(out), "rows": len(predictions), "engine": engine}


def compare(
    a: Path, b: Path, *, split: str | None, data: str | None, threads: int | None
) -> Comparison:
    """Compare two models on the same rows.

    Raises:
        AssayError: they are not of one task and one data set, or cannot be loaded.
    """
    prepare(threads)
    from assay.recipe.compare import compare as compare_models

    return compare_models(a, b, split=split, data=data)
