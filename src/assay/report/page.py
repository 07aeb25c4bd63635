"""`report.html`: one self-contained page: what was done, what holds, how to check it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.files import write_bytes
from assay.report import sections
from assay.report.answer import answer
from assay.report.attacks import attacks
from assay.report.charged import charged
from assay.report.figures import THIRD
from assay.report.pictures import baseline_chart, error_charts, learning_charts
from assay.report.reading import RunFiles, as_map, read_run
from assay.report.strings import LANGUAGE, LANGUAGES, Phrase, recorded, say
from assay.report.timeline import EVENTS, Track, tracks
from assay.report.trust import calibrations, mistakes, transfers

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
#: claims shown before the rest folds away
TRACKS = 40


def write_report(run_folder: Path) -> Path:
    """Write `report.html` into a run folder, from the files of that folder alone.

    The page asks for nothing from anywhere, holds no script, and follows the reader's theme. The
    same files give the same bytes. Where the data are private only the owner may read it, since
    curves and counts are disclosures.

    Args:
        run_folder: `runs/<recipe>/<n>`.

    Returns:
        The path of the page.

    Raises:
        LoadError: it is not a run folder, or the page cannot be written.
        ArtefactError: a file that the page must not leave out is damaged.
    """
    run = read_run(run_folder)
    path = run_folder / "report.html"
    # a lone surrogate can stand in JSON, but in no file
    text = render(run).encode("utf-8", "replace")
    write_bytes(path, text, mode=0o600 if run.private else None)
    return path


def templates(escape: bool) -> Environment:
    """The package's templates; `t` makes phrases."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals["t"] = say
    made.globals["recorded"] = recorded
    return made


def frame() -> Mapping[str, Any]:
    """What every page shows: languages, style, the name that charts are let through by."""
    from markupsafe import Markup

    return {
        "language": LANGUAGE,
        "languages": LANGUAGES,
        "style": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        "safe": Markup,
    }


def render(run: RunFiles) -> str:
    """The page of a run."""
    return templates(escape=True).get_template("report.html.j2").render(view(run))


def view(run: RunFiles) -> Mapping[str, Any]:
    """Everything the template shows."""
    found = tracks(run)
    happened = {cell.event for track in found for cell in track.cells}
    learning, more_learning = learning_charts(run)
    errors, errors_stage = error_charts(run)
    shown = {
        **frame(),
        "run": run,
        "title": say("page.title", recipe=run.recipe_name),
        "kind": say("page.report"),
        "facts": sections.facts(run),
        "answer": answer(run),
        "numbers": sections.numbers(run),
        "baselines": baseline_chart(run),
        "tracks": found[:TRACKS],
        "events": [event for event in EVENTS if event in happened],
        "more_tracks": found[TRACKS:],
        "stages": sections.stage_cards(run),
        "learning": learning,
        "more_learning": more_learning,
        "errors": errors,
        "errors_stage": errors_stage,
        "errors_three": len(errors) == 3 and all(chart.across == THIRD for chart in errors),
        "mistakes": mistakes(run),
        "calibrations": calibrations(run),
        "transfers": transfers(run),
        "charged": charged(run),
        "attacks": attacks(run),
        "cost": sections.cost(run, found),
        "data": sections.data(run),
        "recipe": sections.coloured(run.recipe_text),
        "environment": sections.environment(run),
        "command_folder": shlex.quote(run.folder),
        "foot": _foot(run),
    }
    return {**shown, "contents": _contents(shown, found)}


def _foot(run: RunFiles) -> Phrase:
    version = as_map(run.environment.get("versions")).get("assay")
    return say("page.foot", version=version) if isinstance(version, str) else say("page.foot_plain")


def _contents(shown: Mapping[str, Any], found: list[Track]) -> list[tuple[str, Phrase]]:
    here = {
        "numbers": bool(shown["numbers"]),
        "claims": bool(found or shown["stages"]),
        "learning": bool(shown["learning"]),
        "errors": bool(shown["errors"] or shown["mistakes"]),
        "calibration": bool(shown["calibrations"]),
        "transfer": bool(shown["transfers"]),
        "charged": bool(shown["charged"]),
        "attacks": bool(shown["attacks"]),
        "cost": bool(shown["cost"]),
        "data": bool(shown["data"].facts or shown["data"].reads),
        "recipe": bool(shown["recipe"]),
        "environment": bool(shown["environment"]),
        "verify": True,
    }
    return [(key, say(f"nav.{key}")) for key, there in here.items() if there]
