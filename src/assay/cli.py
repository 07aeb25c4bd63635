"""The command `assay`: parse, call, print. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import errno
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, NoReturn

import click

from assay import __version__
from assay.errors import AssayError, LoadError, UsageError

with warnings.catch_warnings():
    # typer touches a name that newer releases of click deprecate
    warnings.simplefilter("ignore", DeprecationWarning)
    import typer

app = typer.Typer(
    name="assay",
    help="Adapt a pretrained model by a recipe, and keep every claim about it checkable.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe (YAML).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Change one setting, e.g. stages.finetune.epochs=1 (repeatable).",
    ),
]
Allow = Annotated[
    list[Path] | None,
    typer.Option("--allow", metavar="FILE", help="A Python file that the recipe may run."),
]
Seed = Annotated[
    int | None, typer.Option("--seed", metavar="N", min=0, help="Replaces the recipe's seed.")
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, help="Threads (default: one a core)."),
]

_INTERRUPTED = 130

#: errors of the operating system that are the user's to mend
_MENDABLE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EROFS: "choose another folder",
    errno.EACCES: "choose another folder, or change its permissions",
    errno.EPERM: "choose another folder, or change its permissions",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


def _print_json(value: Any) -> None:
    print(json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False))


def _version(wanted: bool) -> None:
    if wanted:
        print(f"assay {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


@app.command()
def init(
    path: Annotated[Path, typer.Argument(metavar="[FILE]", help="The file to write.")] = Path(
        "recipe.yaml"
    ),
    template: Annotated[
        str, typer.Option("--template", metavar="NAME", help="text or table.")
    ] = "text",
    json_: Json = False,
) -> int:
    """Write a commented recipe to start from."""
    from assay.recipe.template import write_template

    write_template(path, template)
    if json_:
        _print_json({"path": str(path), "template": template})
    else:
        print(path)
        print(f"next: assay plan {path}", file=sys.stderr)
    return 0


@app.command()
def plan(
    recipe: RecipeFile,
    deep: Annotated[
        bool, typer.Option("--deep", help="Build the network (without weights) and count.")
    ] = False,
    set_: Sets = None,
    seed: Seed = None,
    allow: Allow = None,
    json_: Json = False,
) -> int:
    """Show what a recipe would do and which claims would hold, before any compute is spent."""
    from assay.recipe.schema import Recipe

    result = Recipe.load(recipe, set=set_ or (), seed=seed, allow=allow or ()).plan(deep)
    if json_:
        _print_json(result.as_json())
    else:
        print("\n".join(result.lines()))
    return 0


@app.command()
def run(
    recipe: Annotated[
        Path | None,
        typer.Argument(metavar="[RECIPE]", help="A recipe (YAML); not needed with --resume."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder of the run (default: runs/<name>/<n>)."),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="DIR", help="Go on with a stopped run.")
    ] = None,
    set_: Sets = None,
    threads: Threads = None,
    seed: Seed = None,
    sign: Annotated[
        Path | None,
        typer.Option("--sign", metavar="KEY", help="Ed25519 private key that signs the passport."),
    ] = None,
    allow: Allow = None,
    json_: Json = False,
) -> int:
    """Do what a recipe says; prints where its report is, first and last."""
    from assay.recipe import command

    def started(folder: Path) -> None:
        if not json_:
            print(folder / "report.html", flush=True)

    done = command.run(
        recipe,
        out=out,
        resume=resume,
        set=tuple(set_ or ()),
        threads=threads,
        seed=seed,
        sign=sign,
        allow=tuple(allow or ()),
        started=started,
    )
    for miss in done.misses:
        print(f"error: {miss}", file=sys.stderr)
    if json_:
        _print_json(
            {
                "folder": str(done.folder),
                "model": str(done.model),
                "report": str(done.report),
                "exit_code": done.exit_code,
                **done.claims,
            }
        )
    else:
        print(done.report)
    return done.exit_code


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A model or a run.")],
    strict: Annotated[
        bool, typer.Option("--strict", help="A claim that cannot be measured here is an error.")
    ] = False,
    trust: Annotated[
        Path | None,
        typer.Option("--trust", metavar="PUBKEY", help="Public key that must have signed it."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="PATH", help="Where the data are now, if moved."),
    ] = None,
    threads: Threads = None,
    allow: Allow = None,
    json_: Json = False,
) -> int:
    """Check an artefact's passport and measure every claim again."""
    from assay.recipe import command

    result = command.verify(
        folder, strict=strict, trust=trust, data=data, threads=threads, allow=tuple(allow or ())
    )
    if json_:
        _print_json(result.as_json())
    else:
        print("\n".join(result.lines()))
    return int(result.exit_code)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model or a run.")],
    input_: Annotated[
        Path, typer.Argument(metavar="INPUT", help="CSV, Parquet, Arrow or JSON lines.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="A .csv, .parquet or .jsonl to write.")
    ],
    threads: Threads = None,
    json_: Json = False,
) -> int:
    """Predict for the rows of a file; rows keep their ids."""
    from assay.recipe import command

    done = command.predict(model, input_, out, threads=threads)
    if json_:
        _print_json(done)
    else:
        print(f"{done['out']}: {done['rows']} rows by {done['engine']}")
    return 0


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A model or a run.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one of the same task.")],
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="NAME", help="Rows to compare on (default: as audited)."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="PATH", help="Where the data are now, if moved."),
    ] = None,
    threads: Threads = None,
    json_: Json = False,
) -> int:
    """Compare two models on the same rows: paired differences with intervals."""
    from assay.recipe import command

    result = command.compare(a, b, split=split, data=data, threads=threads)
    if json_:
        _print_json(result.as_json())
    else:
        print("\n".join(result.lines()))
    return 0


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run.")], json_: Json = False
) -> int:
    """Write report.html and card.md of a run again."""
    from assay.recipe import command

    page = command.report(folder)
    if json_:
        _print_json({"report": str(page)})
    else:
        print(page)
    return 0


@app.command()
def models(json_: Json = False) -> int:
    """List the models a recipe can start from."""
    from assay.recipe import listing

    _table(listing.models(), json_)
    return 0


@app.command()
def data(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A sample to look into.")
    ] = None,
    json_: Json = False,
) -> int:
    """List the sample data, or look into one."""
    from assay.recipe import listing

    if name is None:
        _table(listing.samples(), json_)
        return 0
    facts = listing.sample(name)
    if json_:
        _print_json(facts)
    else:
        print("\n".join(listing.sample_lines(facts)))
    return 0


@app.command()
def doctor(json_: Json = False) -> int:
    """Check what this machine has: libraries, extras, threads, samples, space."""
    from assay.recipe.doctor import examine

    checks = examine(Path.cwd())
    bad = [check for check in checks if check.status == "bad"]
    if json_:
        _print_json({"ok": not bad, "checks": [check.model_dump() for check in checks]})
    else:
        for check in checks:
            mend = f"  -> {check.mend}" if check.mend else ""
            print(f"{check.status:<8}{check.name:<22}{check.value}{mend}")
    return LoadError.exit_code if bad else 0


def _table(rows: list[dict[str, Any]], as_json: bool) -> None:
    from assay.recipe.listing import table_lines

    if as_json:
        _print_json(rows)
    else:
        print("\n".join(table_lines(rows)))


def _report_error(error: AssayError, as_json: bool) -> int:
    refusals = getattr(error, "refusals", ())
    print(f"error: {error.line()}", file=sys.stderr)
    for other in refusals[1:]:
        text = UsageError(other.what, where=other.where or None, mend=other.mend or None).line()
        print(f"error: {text}", file=sys.stderr)
    if as_json:
        shown: dict[str, Any] = {
            "type": type(error).__name__,
            "what": error.what,
            "where": error.where,
            "mend": error.mend,
            "exit_code": error.exit_code,
        }
        if refusals:
            shown["refusals"] = [r.model_dump() for r in refusals]
        _print_json({"error": shown})
    return error.exit_code


def _as_assay_error(error: Exception) -> AssayError | None:
    """What the user can mend, among the errors that are not ours."""
    if isinstance(error, click.ClickException):
        context = error.ctx if isinstance(error, click.UsageError) else None
        hint = context.command_path if context is not None else "assay"
        return UsageError(error.format_message().rstrip("."), mend=f"see: {hint} --help")
    if isinstance(error, OSError) and error.errno in _MENDABLE:
        return LoadError(
            error.strerror or "cannot be written",
            where=str(error.filename) if error.filename else None,
            mend=_MENDABLE[error.errno],
        )
    if isinstance(error, MemoryError):
        return LoadError("not enough memory", mend="use a smaller batch or a smaller model")
    return None


def invoke(args: list[str]) -> int:
    """Run one command line; returns the exit code, whatever happens."""
    as_json = "--json" in args
    try:
        result = app(args or ["--help"], prog_name="assay", standalone_mode=False)
        sys.stdout.flush()
        code = result if isinstance(result, int) else 0
        # an interrupt comes back from typer as a result
        return _report_stop() if code == _INTERRUPTED else code
    except (KeyboardInterrupt, click.Abort):
        return _report_stop()
    except (BrokenPipeError, SystemExit) as stop:
        # click turns a broken pipe into an exit; any other exit is a user's part that gave up
        if isinstance(stop, SystemExit) and not isinstance(stop.__context__, BrokenPipeError):
            gave_up = UsageError(f"a part stopped the program ({stop.code})", mend="mend it")
            return _report_error(gave_up, as_json)
        # whoever read our output has gone: what is left in the buffer has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except AssayError as refusal:
        return _report_error(refusal, as_json)
    except Exception as error:  # noqa: BLE001 - the last line of defence against tracebacks
        known = _as_assay_error(error)
        if known is not None:
            return _report_error(known, as_json)
        return _report_bug(error, as_json)


def _report_stop() -> int:
    from assay.recipe.command import stopped

    print(f"\nstopped{stopped()}", file=sys.stderr)
    return _INTERRUPTED


def _report_bug(error: Exception, as_json: bool) -> int:
    import traceback

    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}"
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    if os.environ.get("ASSAY_TRACEBACK"):
        traceback.print_exception(error)
        mend = "please report it"
    else:
        mend = "please report it with what ASSAY_TRACEBACK=1 prints"
    print(f"error: {text} ({place}); this is a bug in assay: {mend}", file=sys.stderr)
    if as_json:
        shown = {"type": type(error).__name__, "what": text, "where": place, "mend": mend}
        _print_json({"error": {**shown, "exit_code": 1}})
    return 1


def main() -> NoReturn:
    """The entry point of the command."""
    sys.exit(invoke(sys.argv[1:]))
