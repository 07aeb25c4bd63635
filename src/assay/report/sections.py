"""The plain parts of the page: headline table, cost, data, stages, recipe, environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assay.report.answer import baselines
from assay.report.numbers import (
    duration,
    exact,
    less_is_better,
    number,
    shown,
)
from assay.report.pictures import headline_claims
from assay.report.reading import RunFiles, StageEntry, as_index, as_list, as_map
from assay.report.strings import (
    TABLE,
    Phrase,
    chain,
    kind_name,
    literal,
    part_name,
    plural,
    recorded,
    say,
)
from assay.report.timeline import Track, conditions_of, interval_of, kind_of, unit_of, value_of

if TYPE_CHECKING:
    from markupsafe import Markup

_YAML_LINE = re.compile(
    r"(?P<indent>\s*(?:- +)*)(?P<key>[^\s#'\"{}\[\],&*!|>%@`-][^#'\"{}\[\],]*?)(?P<colon>:)(?= |$)"
)

#: splits in a reader's order; others follow by name
_SPLITS = {"train": 0, "valid": 1, "test": 2}


@dataclass(frozen=True)
class Value:
    """A value in a table: as shown, not rounded, whether it is the best of its row."""

    shown: str
    exact: str = ""
    best: bool = False


@dataclass(frozen=True)
class NumberRow:
    """One metric of the headline table: the model's value, then each baseline's."""

    name: Phrase
    about: Phrase | None
    status: str
    model: Value
    interval: Phrase | None
    others: tuple[Value, ...]


@dataclass(frozen=True)
class Numbers:
    """The headline table: names of the baselines, rows, the level of the intervals."""

    names: tuple[Phrase, ...]
    rows: tuple[NumberRow, ...]
    level: str


def numbers(run: RunFiles) -> Numbers | None:
    """The qualities measured together, against each baseline; None when there are none."""
    claims = headline_claims(run)
    if not claims:
        return None
    found = baselines(run, claims[0])
    first, *others = [as_map(claim.get("conditions")).items() for claim in claims]
    shared = {name for name, value in first if all((name, value) in other for other in others)}
    rows = []
    for claim in claims:
        kind, unit = kind_of(claim), unit_of(claim)
        amounts = [baseline.value(kind) for baseline in found]
        known = [a for a in [number(claim.get("value")), *amounts] if a is not None]
        best = min(known) if less_is_better(kind) else max(known)
        rows.append(
            NumberRow(
                name=kind_name(kind),
                about=conditions_of(run, claim, shared),
                status=str(claim.get("status") or ""),
                model=Value(
                    value_of(run, claim),
                    exact(claim.get("value")),
                    number(claim.get("value")) == best,
                ),
                interval=interval_of(run, claim),
                others=tuple(Value(shown(a, unit, kind), exact(a), a == best) for a in amounts),
            )
        )
    level = 100 * (number(claims[0].get("level")) or 0.95)
    return Numbers(tuple(baseline.name for baseline in found), tuple(rows), f"{level:g}%")


@dataclass(frozen=True)
class Cost:
    """Size and speed: tiles, then latencies as (conditions, a value for each column)."""

    tiles: tuple[Track, ...]
    columns: tuple[Phrase, ...]
    latencies: tuple[tuple[Phrase, tuple[Track | None, ...]], ...]
    machine: Phrase | None


def cost(run: RunFiles, tracks: list[Track]) -> Cost | None:
    """What the model costs; None when nothing was measured."""
    tiles = [t for t in tracks if kind_of(t.claim).partition(".")[0] in ("size", "agreement")]
    times = [t for t in tracks if kind_of(t.claim).startswith("latency.")]
    if not tiles and not times:
        return None
    kinds = sorted({kind_of(track.claim) for track in times})
    rows: dict[str, tuple[Phrase, dict[str, Track]]] = {}
    for track in times:
        about = conditions_of(run, track.claim) or say("none")
        rows.setdefault(str(about), (about, {}))[1][kind_of(track.claim)] = track
    return Cost(
        tuple(tiles),
        tuple(kind_name(kind) for kind in kinds),
        tuple((about, tuple(row.get(kind) for kind in kinds)) for about, row in rows.values()),
        _machine(run),
    )


def _machine(run: RunFiles) -> Phrase | None:
    machine, threads = run.common.get("machine") or run.machine, run.common.get("threads")
    if not machine:
        return None
    return (
        plural("cost.threads", 1 if threads == "1" else 2, machine=machine, n=threads)
        if threads
        else literal(machine)
    )


@dataclass(frozen=True)
class ReadRow:
    """One reading of data by a stage: `sort` is influence, disclosure or mechanism."""

    stage: StageEntry
    split: str
    influences: Phrase | None
    why: Phrase | None
    sort: str


@dataclass(frozen=True)
class DataSection:
    """The data card: facts, rows by split with their share, readings, disclosures."""

    facts: tuple[tuple[Phrase, Phrase], ...]
    splits: tuple[tuple[str, str, str], ...]
    reads: tuple[ReadRow, ...]
    disclosures: Phrase | None
    pretrained: bool


def data(run: RunFiles) -> DataSection:
    """What is known of the data and of who read them."""
    reads = tuple(_read(stage, read) for stage in run.stages for read in stage.reads)
    told = [r for r in reads if r.sort == "disclosure"]
    unique = {(r.split, r.stage.index): r for r in told}
    rows = as_map(run.data.get("split_rows"))
    rows = dict(sorted(rows.items(), key=lambda item: (_SPLITS.get(item[0], len(_SPLITS)), item)))
    total = sum(rows.values()) or 1
    return DataSection(
        facts=_data_facts(run),
        splits=tuple((name, f"{n:,}", f"{100 * n / total:.1f}%") for name, n in rows.items()),
        reads=reads,
        disclosures=chain(
            say("data.disclosure_of", split=r.split, index=r.stage.index, name=r.stage.name)
            for r in unique.values()
        ),
        pretrained=bool(run.model.get("pretrained")),
    )


def _read(stage: StageEntry, read: Mapping[str, Any]) -> ReadRow:
    influences = [str(item) for item in as_list(read.get("influences"))]
    disclosure = set(influences) <= {"claims", "report"}
    return ReadRow(
        stage=stage,
        split=str(read.get("split") or ""),
        influences=chain(
            say(f"influence.{item}") if f"influence.{item}" in TABLE else literal(item)
            for item in influences
        ),
        why=recorded(str(read["why"])) if read.get("why") else None,
        sort="mechanism" if read.get("private") else "disclosure" if disclosure else "influence",
    )


def rows_of(run: RunFiles) -> int | None:
    """Number of rows of the data, where it is known."""
    rows = as_index(run.data.get("rows"))
    counted = sum(as_map(run.data.get("split_rows")).values())
    return counted or None if rows is None else rows


def _data_facts(run: RunFiles) -> tuple[tuple[Phrase, Phrase], ...]:
    card = run.data
    rows, classes = rows_of(run), as_index(card.get("classes"))
    unit = card.get("unit")
    sensitive = [literal(column) for column in as_list(card.get("sensitive"))]
    known: list[tuple[str, Phrase | None]] = [
        ("name", literal(card["name"]) if card.get("name") else None),
        ("modality", literal(card["modality"]) if card.get("modality") else None),
        ("rows", literal(f"{rows:,}") if rows is not None else None),
        ("label", literal(card["label"]) if card.get("label") else None),
        ("classes", literal(f"{classes:,}") if classes else None),
        (
            "sensitive",
            chain(sensitive) or (say("data.sensitive_none") if "sensitive" in card else None),
        ),
        (
            "unit",
            (say("data.unit_column", column=unit) if unit else say("data.unit_row"))
            if "unit" in card
            else None,
        ),
        ("private", say("yes" if card["private"] else "no") if "private" in card else None),
        ("license", literal(card["license"]) if card.get("license") else None),
        ("digest", literal(str(card["digest"])[:16]) if card.get("digest") else None),
    ]
    return tuple((say(f"data.{key}"), value) for key, value in known if value is not None)


@dataclass(frozen=True)
class StageCard:
    """What a stage did, for the list under the timeline."""

    stage: StageEntry
    moves: Phrase | None
    adds: Phrase | None
    took: Phrase | None
    used: tuple[tuple[str, str], ...]


def stage_cards(run: RunFiles) -> list[StageCard]:
    """One card a stage; none where nothing but names was recorded."""
    cards = [
        StageCard(
            stage=stage,
            moves=_moves(stage),
            adds=_measures(stage),
            took=duration(stage.seconds) if stage.seconds is not None else None,
            used=tuple(flat(stage.used))[:12],
        )
        for stage in run.stages
    ]
    told = any(c.moves or c.adds or c.took or c.used or c.stage.notes for c in cards)
    return cards if told else []


def _moves(stage: StageEntry) -> Phrase | None:
    if stage.moves is None:
        return None
    return say("stages.moves", what=recorded(stage.moves)) if stage.moves else say("stages.still")


def _measures(stage: StageEntry) -> Phrase | None:
    families = dict.fromkeys(kind.partition(".")[0] for kind in stage.adds)
    what = chain(part_name("family", family) for family in families)
    return say("stages.adds", what=what) if what else None


def facts(run: RunFiles) -> list[tuple[Phrase, Phrase]]:
    """The line under the recipe's name: model, data, task, stages, time."""
    found: list[tuple[str, Phrase]] = []
    size = next((c for c in run.claims if c.get("kind") == "size.parameters"), {})
    count = number(size.get("value", run.model.get("parameters")))
    if name := run.model.get("name"):
        counted = shown(count, "count") if count is not None else ""
        found.append(
            (
                "model",
                say("fact.parameters", name=name, count=counted) if counted else literal(name),
            )
        )
    if name := run.data.get("name"):
        rows = rows_of(run)
        known = rows is not None
        found.append(
            ("data", say("fact.rows", name=name, rows=f"{rows:,}") if known else literal(name))
        )
    if run.task:
        found.append(("task", literal(run.task)))
    times = [stage.seconds for stage in run.stages if stage.seconds is not None]
    if times:
        found.append(("time", duration(sum(times))))
    names = [stage.name for stage in run.stages if stage.index >= 0]
    if len(names) > 6:
        found.append(
            ("stages", say("fact.stages_many", count=len(names), first=names[0], last=names[-1]))
        )
    elif names:
        found.append(("stages", literal(" → ".join(names))))
    return [(say(f"fact.{key}"), value) for key, value in found]


def flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (path, text) pairs, in their own order.

    >>> flat({"a": {"b": 1, "c": [1, 2]}})
    [('a.b', '1'), ('a.c', '1, 2')]
    """
    found: list[tuple[str, str]] = []
    for key, item in value.items():
        path = f"{prefix}{key}"
        if isinstance(item, Mapping) and item:
            found += flat(item, f"{path}.")
        elif isinstance(item, (list, tuple)) and not any(
            isinstance(i, (Mapping, list)) for i in item
        ):
            found.append((path, ", ".join(map(str, item))))
        elif isinstance(item, bool) or item is None:
            found.append((path, shown(item)))
        else:
            found.append((path, f"{item:.6g}" if isinstance(item, float) else str(item)))
    return found


@dataclass(frozen=True)
class Environment:
    """The environment: single entries, and groups (packages) that fold."""

    rows: tuple[tuple[str, str], ...]
    groups: tuple[tuple[Phrase, tuple[tuple[str, str], ...]], ...]


def environment(run: RunFiles) -> Environment | None:
    """The environment of the run; None when it was not recorded."""
    rows: dict[str, Any] = {}
    groups = []
    for key, value in run.environment.items():
        entries = flat(value) if isinstance(value, Mapping) else []
        if len(entries) > 6:
            name = say("environment.packages", name=key, n=len(entries))
            groups.append((name, tuple(sorted(entries))))
        else:
            rows[str(key)] = value
    return Environment(tuple(flat(rows)), tuple(groups)) if rows or groups else None


def coloured(text: str) -> Markup:
    """YAML as HTML: keys and comments marked, everything escaped."""
    from markupsafe import Markup

    lines = []
    for line in text.rstrip().splitlines():
        match = _YAML_LINE.match(line)
        if line.lstrip().startswith("#"):
            lines.append(Markup('<i class="c">{}</i>').format(line))
        elif match:
            lines.append(
                Markup('{}<b class="k">{}</b>:{}').format(
                    match["indent"], match["key"], line[match.end() :]
                )
            )
        else:
            lines.append(Markup("{}").format(line))
    return Markup("\n").join(lines)
