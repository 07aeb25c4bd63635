"""`card.md`: a model card in the Hugging Face format, its results taken from the claims that hold.

Format: https://huggingface.co/docs/hub/model-cards (YAML front matter with `model-index`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from assay.files import write_bytes
from assay.report.answer import answer
from assay.report.numbers import metric_of, number
from assay.report.page import templates
from assay.report.reading import RunFiles, read_run
from assay.report.sections import data, stage_cards
from assay.report.strings import Phrase, chain, kind_name, literal, part_name, say
from assay.report.timeline import Track, kind_of, tracks

#: tasks of assay -> tasks of the Hub
_TASKS = {
    "text-classification": "text-classification",
    "tabular-classification": "tabular-classification",
    "tabular-regression": "tabular-regression",
    "image-classification": "image-classification",
}
#: metrics of assay -> metrics of the Hub, where the names differ
_METRICS = {"auroc": "roc_auc", "macro_f1": "f1", "r2": "r_squared", "sensitivity": "recall"}
#: licences the Hub knows; any other is `other` with a name
_LICENSES = frozenset(
    [
        *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-2.0", "gpl-3.0", "lgpl-3.0"),
        *("agpl-3.0", "mpl-2.0", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "unknown"),
    ]
)
#: families of claims whose absence a reader should know of
_ASKED = ("calibration", "fairness", "robustness", "explanation", "privacy")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]#|~<>&])")


def write_card(run_folder: Path) -> Path:
    """Write `card.md` into a run folder, from the files of that folder alone.

    Only claims that hold become results of `model-index`; void and failed ones are named under the
    limits. Where the data are private only the owner may read the file.

    Args:
        run_folder: `runs/<recipe>/<n>`.

    Returns:
        The path of the card.

    Raises:
        LoadError: it is not a run folder, or the card cannot be written.
        ArtefactError: a file that the card must not leave out is damaged.
    """
    run = read_run(run_folder)
    path = run_folder / "card.md"
    text = render(run).encode("utf-8", "replace")
    write_bytes(path, text, mode=0o600 if run.private else None)
    return path


def render(run: RunFiles) -> str:
    """The card of a run."""
    found = tracks(run)
    environment = templates(escape=False)
    environment.filters["md"] = escaped
    return environment.get_template("card.md.j2").render(
        run=run,
        front=_front_matter(run, found),
        title=_title(run),
        answer=answer(run),
        use=use(run),
        limits=limits(run, found),
        tracks=found,
        stages=stage_cards(run),
        data=data(run),
        fence=_fence(run.recipe_text),
        recipe=run.recipe_text.rstrip(),
        folder=shlex.quote(run.folder),
    )


def escaped(text: object) -> str:
    r"""Text as Markdown that reads as itself, on one line.

    >>> escaped("a|b *c* <i>")
    'a\\|b \\*c\\* \\<i\\>'
    """
    return _MARKDOWN.sub(r"\\\1", " ".join(str(text).split()))


def _fence(text: str) -> str:
    """A code fence longer than any run of backticks in the text."""
    return "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))


def _title(run: RunFiles) -> Phrase:
    model = run.final.get("name")
    return (
        say("card.title", recipe=run.recipe_name, model=model)
        if model
        else literal(run.recipe_name)
    )


def use(run: RunFiles) -> Phrase:
    """What the model was made for."""
    label, name = run.data.get("label"), run.data.get("name")
    if run.task and label and name:
        return say("card.use_text", task=run.task, data=name, label=label)
    return say("card.use_text_plain")


def limits(run: RunFiles, found: list[Track]) -> list[Phrase]:
    """What a reader must not take from the card."""
    if not found:
        return [say("card.limit.none")]
    rows = [n for track in found if isinstance(n := track.claim.get("n"), int)]
    limits = [say("card.limit.interval", n=f"{max(rows):,}")] if rows else []
    for status in ("fails", "void"):
        kinds = _names(track for track in found if track.status == status)
        if kinds is not None:
            limits.append(say(f"card.limit.{status}", kinds=kinds))
    measured = {kind_of(track.claim).partition(".")[0] for track in found}
    absent = chain(part_name("family", name) for name in _ASKED if name not in measured)
    if absent is not None:
        limits.append(say("card.limit.untested", families=absent))
    sensitive = chain(map(literal, run.data.get("sensitive") or ()))
    if sensitive is not None:
        limits.append(say("card.limit.sensitive", columns=sensitive))
    if run.model.get("pretrained"):
        limits.append(say("card.limit.pretraining"))
    return limits


def _names(found: Iterable[Track]) -> Phrase | None:
    return chain({str(track.name): track.name for track in found}.values(), "list")


def _front_matter(run: RunFiles, found: list[Track]) -> str:
    """The YAML head of the card."""
    import yaml

    # a student that took the model's place is what is handed on, under its own licence
    final = run.final
    tags = ["assay", *(str(final[k]) for k in ("modality", "architecture") if final.get(k))]
    head: dict[str, Any] = {"library_name": "assay", "tags": list(dict.fromkeys(tags))}
    license_name = str(final.get("license") or "unknown")
    if license_name.lower() in _LICENSES:
        head["license"] = license_name.lower()
    elif final.get("pretrained"):
        # a model made from scratch has no licence but the one its maker will give it
        head |= {"license": "other", "license_name": license_name}
    if run.task in _TASKS:
        head["pipeline_tag"] = _TASKS[run.task]
    if run.data.get("name"):
        head["datasets"] = [str(run.data["name"])]
    if final.get("pretrained") and final.get("name"):
        head["base_model"] = str(final["name"])
    results = _results(run, found)
    if results:
        head["model-index"] = [{"name": run.recipe_name, "results": results}]
    return str(yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=10_000)).rstrip()


def _results(run: RunFiles, found: list[Track]) -> list[dict[str, Any]]:
    """Results of `model-index`: one for each data set and split, of the claims that hold."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for track in found:
        claim = track.claim
        if (
            track.status != "holds"
            or not claim.get("dataset")
            or number(claim.get("value")) is None
        ):
            continue
        key = str(claim["dataset"]), str(claim.get("split") or "")
        groups.setdefault(key, []).append(_metric(claim))
    task = _TASKS.get(run.task, run.task or "other")
    digest, own = run.data.get("digest"), str(run.data.get("name") or "")
    return [
        {
            "task": {"type": task, "name": run.task or task},
            "dataset": {"type": dataset, "name": dataset}
            | ({"split": split} if split else {})
            | ({"revision": str(digest)} if digest and dataset == own else {}),
            "metrics": metrics,
        }
        for (dataset, split), metrics in groups.items()
    ]


def _metric(claim: Mapping[str, Any]) -> dict[str, Any]:
    kind = kind_of(claim)
    metric = metric_of(kind) if kind.startswith("quality.") else kind.replace(".", "_")
    made: dict[str, Any] = {
        "type": _METRICS.get(metric, metric),
        "name": str(kind_name(kind)),
        "value": claim["value"],
    }
    args: dict[str, Any] = {"kind": kind}
    if claim.get("interval"):
        args |= {"interval": list(claim["interval"]), "level": claim.get("level", 0.95)}
    if claim.get("n") is not None:
        args["n"] = claim["n"]
    conditions = claim.get("conditions")
    if isinstance(conditions, Mapping) and conditions:
        args["conditions"] = dict(conditions)
    return made | {"args": args}
