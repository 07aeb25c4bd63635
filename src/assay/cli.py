"""The command `assay`: parse, call, print. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, NoReturn

import click

from assay import __version__
from assay.errors import LoadError, UsageError
from assay.recipe import site_command

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

app.add_typer(site_command.app)

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
        str, typer.Option("--template", metavar="NAME", help="text, table or image.")
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
        Path,
        typer.Argument(
            metavar="INPUT", help="CSV, Parquet, Arrow, JSON lines, or a folder of pictures."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="A .csv, .parquet or .jsonl to write.")
    ],
    threads: Threads = None,
    json_: Json = False,
) -> int:
    """Predict for the rows of a file or the pictures of a folder; rows keep their ids."""
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
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page of the comparison too."),
    ] = None,
    threads: Threads = None,
    json_: Json = False,
) -> int:
    """Compare two models on the same rows: paired differences with intervals."""
    from assay.recipe import command

    result = command.compare(a, b, split=split, data=data, html=html, threads=threads)
    if json_:
        _print_json(result.as_json())
    else:
        print("\n".join(result.lines()))
        if html is not None:
            print(html)
    return 0


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run.")], json_: Json = False
) -> int:
    """Write report.html, card.md and bom.cdx.json of a run again."""
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
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Get the sample from the system's packages first.")
    ] = False,
    json_: Json = False,
) -> int:
    """List the sample data, or look into one."""
    from assay.recipe import listing

    if fetch:
        where = listing.fetch(name)
        if not json_:
            print(f"fetched into {where}")
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


def _fail(error: Exception, as_json: bool) -> int:
    from assay.recipe.failures import explain

    if isinstance(error, click.ClickException):
        context = error.ctx if isinstance(error, click.UsageError) else None
        hint = context.command_path if context is not None else "assay"
        error = UsageError(error.format_message().rstrip("."), mend=f"see: {hint} --help")
    failure = explain(error)
    print(failure.trace, end="", file=sys.stderr)
    for line in failure.lines:
        print(f"error: {line}", file=sys.stderr)
    if as_json:
        _print_json(failure.json)
    return failure.code


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
            return _fail(gave_up, as_json)
        # whoever read our output has gone: what is left in the buffer has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last line of defence against tracebacks
        return _fail(error, as_json)


def _report_stop() -> int:
    from assay.recipe.command import stopped

    print(f"\nstopped{stopped()}", file=sys.stderr)
    return _INTERRUPTED


def main() -> NoReturn:
    """The entry point of the command."""
    sys.exit(invoke(sys.argv[1:]))
