"""The page of `assay compare`: two models on the same rows, their claims and what was required."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.claims import Bound
from assay.errors import LoadError
from assay.files import write_bytes
from assay.report.answer import PREFERRED, required
from assay.report.figures import balance, in_languages
from assay.report.numbers import (
    bound_words,
    difference,
    exact,
    less_is_better,
    number,
    pair,
    parse_bound,
    percentage,
    shown,
)
from assay.report.page import frame, templates
from assay.report.reading import RunFiles, as_index, as_list, as_map, identity, read_model, read_run
from assay.report.strings import Phrase, kind_name, literal, plural, say
from assay.report.timeline import Track, kind_of, tracks, unit_of


@dataclass(frozen=True)
class Delta:
    """One metric of both models.

    Attributes:
        name: what the metric is called.
        a, b, change: as shown; `change` is b - a with its sign.
        exact: both values and the difference, not rounded.
        interval: of the difference, as shown; None where it is not defined.
        better: `a`, `b` or `neither` is shown to be better.
        strip: its picture.
    """

    name: Phrase
    a: str
    b: str
    change: Phrase
    exact: tuple[str, str, str]
    interval: Phrase | None
    better: str
    strip: str


@dataclass(frozen=True)
class Wanted:
    """One requirement of either model, and whether it holds for each (None: not known)."""

    name: Phrase
    bound: Phrase
    a: tuple[str, bool | None]
    b: tuple[str, bool | None]


def write_comparison(found: Mapping[str, Any], out: Path) -> Path:
    """Write the page of a comparison.

    Args:
        found: what `Comparison.as_json` gives.
        out: the file to write.

    Returns:
        The path of the page.

    Raises:
        LoadError: the page cannot be written, or a model's files cannot be read.
        ArtefactError: a file that the page must not leave out is damaged.
    """
    sides = [side(Path(str(found[name]))) for name in ("a", "b")]
    text = render(found, sides[0], sides[1])
    private = any(one.private for one in sides)
    write_bytes(out, text.encode("utf-8", "replace"), mode=0o600 if private else None)
    return out


def side(path: Path) -> RunFiles:
    """What is known of a model: of its run, where it stands in one, else of its passport alone.

    Raises:
        LoadError: there is no model.
    """
    for folder in (path, path.parent):
        if (folder / "claims.json").is_file() and (folder / "model").is_dir():
            return read_run(folder)
    if (path / "claims.jsonl").is_file():
        return read_model(path)
    raise LoadError("no model is here", where=str(path), mend="name a run or a model folder")


def render(found: Mapping[str, Any], a: RunFiles, b: RunFiles) -> str:
    """The page of a comparison (see `write_comparison`)."""
    where = say("where.split", dataset=found["dataset"], split=found["split"])
    deltas = [_delta(item, place) for place, item in enumerate(map(as_map, found["differences"]))]
    wanted = _wanted(a, b)
    rows = _claims(a, b)
    items = [as_map(item) for item in as_list(found["differences"])]
    level = number(items[0].get("level")) if items else None
    contents = {"differences": deltas, "requirements": wanted, "both": rows, "again": True}
    shown_ = {
        **frame(),
        "title": say("compare.page", a=found["a"], b=found["b"]),
        "kind": say("compare.kind"),
        "a": found["a"],
        "b": found["b"],
        "tone": "plain" if _better(_main(found)) == "neither" else "good",
        "headline": _headline(found),
        "sentences": _sentences(found, deltas, where),
        "deltas": deltas,
        "level": f"{100 * (level or 0.95):g}%",
        "units": f"{as_index(found.get('units')) or 0:,}",
        "wanted": wanted,
        "claims": rows,
        "command": f"assay compare {shlex.quote(found['a'])} {shlex.quote(found['b'])}",
        "contents": [(key, say(f"compare.nav.{key}")) for key, there in contents.items() if there],
        "foot": say("compare.foot"),
    }
    return templates(escape=True).get_template("compare.html.j2").render(shown_)


def _main(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """The metric that speaks first."""

    def rank(item: Mapping[str, Any]) -> int:
        metric = str(item.get("metric"))
        return PREFERRED.index(metric) if metric in PREFERRED else len(PREFERRED)

    items = [as_map(item) for item in as_list(found.get("differences"))]
    return min((i for i in items if number(i.get("difference")) is not None), key=rank, default={})


def _unit(metric: str) -> str:
    from assay.audit.measures.metrics import METRICS

    known = METRICS.get(metric)
    return known.unit if known is not None else ""


def _better(item: Mapping[str, Any]) -> str:
    delta, ends = number(item.get("difference")), pair(item.get("interval"))
    if delta is None or ends is None or ends[0] <= 0 <= ends[1]:
        return "neither"
    return "b" if (delta > 0) != less_is_better(f"quality.{item.get('metric')}") else "a"


def _signed(value: float, unit: str, kind: str) -> str:
    """A difference with its sign: `+2.7`, `−0.165`; points where values are percentages."""
    size = f"{100 * abs(value):.1f}" if percentage(unit, kind) else shown(abs(value), unit, kind)
    if not any(digit in size for digit in "123456789"):
        return size
    return f"{'−' if value < 0 else '+'}{size}"


def _ends(item: Mapping[str, Any], unit: str, kind: str) -> Phrase | None:
    ends = pair(item.get("interval"))
    if ends is None:
        return None
    low, high = (_signed(end, unit, kind) for end in ends)
    return say("interval", low=low, high=high)


def _delta(item: Mapping[str, Any], place: int) -> Delta:
    metric = str(item.get("metric"))
    kind, unit = f"quality.{metric}", _unit(metric)
    value, ends, name = number(item.get("difference")), pair(item.get("interval")), kind_name(kind)
    change = say("none")
    if value is not None:
        signed = _signed(value, unit, kind)
        change = say("delta.points", value=signed) if percentage(unit, kind) else literal(signed)
    interval, better = _ends(item, unit, kind), _better(item)
    drawn = ""
    if value is not None and ends is not None:
        about = say("compare.strip", metric=name, change=change, interval=interval)
        up = not less_is_better(kind)
        drawn = in_languages(
            f"balance{place}",
            lambda one: balance(value, ends, up, better, one, str(name), str(about)),
        )
    return Delta(
        name=say("numbers.lower", metric=name) if less_is_better(kind) else name,
        a=shown(item.get("a"), unit, kind),
        b=shown(item.get("b"), unit, kind),
        change=change,
        exact=(exact(item.get("a")), exact(item.get("b")), exact(item.get("difference"))),
        interval=interval,
        better=better,
        strip=drawn,
    )


def _headline(found: Mapping[str, Any]) -> Phrase:
    """Which is better by the metric that speaks first, and whether that is shown."""
    item = _main(found)
    if not item:
        return say("compare.nothing")
    name = kind_name(f"quality.{item['metric']}")
    return say(f"compare.{_better(item)}", metric=name)


def _sentences(found: Mapping[str, Any], deltas: list[Delta], where: Phrase) -> list[Phrase]:
    told = []
    item = _main(found)
    if item:
        metric = str(item["metric"])
        kind, unit = f"quality.{metric}", _unit(metric)
        values = {
            "metric": kind_name(kind),
            "a": shown(item.get("a"), unit, kind),
            "b": shown(item.get("b"), unit, kind),
            "delta": difference(float(item["difference"]), unit, kind),
            "where": where,
            "n": f"{as_index(found.get('rows')) or 0:,}",
        }
        told.append(say("compare.main", **values))
        interval = _ends(item, unit, kind)
        if interval is not None:
            key = "compare.unclear" if _better(item) == "neither" else "compare.clear"
            told.append(say(key, interval=interval))
    counted = {one: sum(d.better == one for d in deltas) for one in ("a", "b", "neither")}
    if deltas:
        told.append(plural("compare.tally", len(deltas), total=len(deltas), **counted))
    if (same := number(found.get("same"))) is not None:
        told.append(say("compare.same", share=f"{100 * same:.1f}%"))
    return told


def _wanted(a: RunFiles, b: RunFiles) -> list[Wanted]:
    """Every requirement of either model, judged for both."""
    asked: dict[str, Mapping[str, Any]] = {}
    for run in (a, b):
        for item in run.require:
            asked.setdefault(_asked(item), item)
    found = []
    for key, item in asked.items():
        kind, bound = str(item.get("kind") or ""), parse_bound(item.get("bound"))
        known = [c for run in (a, b) for c in run.claims if c.get("kind") == kind]
        unit = unit_of(known[0]) if known else ""
        words = bound_words(bound, None, unit, kind) if bound else say("require.any")
        verdicts = [_judged(run, key, item, bound) for run in (a, b)]
        found.append(Wanted(kind_name(kind), words, verdicts[0], verdicts[1]))
    return found


def _asked(item: Mapping[str, Any]) -> str:
    where = {k: item.get(k) for k in ("where", "strict")}
    return identity({"kind": item.get("kind"), "dataset": str(item.get("bound")), "split": where})


def _judged(
    run: RunFiles, key: str, item: Mapping[str, Any], bound: Bound | None
) -> tuple[str, bool | None]:
    """(value as shown, whether it holds): as the run said, else by the claim that holds there."""
    for own, verdict in zip(run.require, required(run), strict=True):
        if _asked(own) == key:
            return verdict.value, verdict.ok
    same = [
        claim
        for claim in run.claims
        if claim.get("kind") == item.get("kind") and claim.get("status") == "holds"
    ]
    # another recipe's requirement is judged only where one claim can be meant
    if bound is None or len(same) != 1 or number(same[0].get("value")) is None:
        return str(say("none")), None
    value, ends = float(same[0]["value"]), pair(same[0].get("interval"))
    tested = bound.worst(ends) if item.get("strict") and ends else value
    return shown(value, unit_of(same[0]), kind_of(same[0])), bound.passes(tested)


def _claims(a: RunFiles, b: RunFiles) -> list[tuple[Track, Track | None, Track | None]]:
    """Claims side by side: (the one that names the row, of the first, of the second)."""
    of_a, of_b = ({identity(t.claim): t for t in tracks(run)} for run in (a, b))
    keys = list(dict.fromkeys([*of_a, *of_b]))
    named = [(of_a.get(key) or of_b[key], of_a.get(key), of_b.get(key)) for key in keys]
    return [(name, one, two) for name, one, two in named]
