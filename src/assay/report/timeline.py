"""Claims by stage: what each stage added, kept, voided and measured again, replayed for the eye."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from assay.report.numbers import digits_apart, exact, number, parse_bound, shown, shown_interval
from assay.report.reading import RunFiles, StageEntry, as_index, as_map, identity
from assay.report.strings import Phrase, chain, kind_name, literal, say

#: families in the order a reader wants them; others follow by name
_FAMILIES = [
    "quality",
    "calibration",
    "conformal",
    "fairness",
    "robustness",
    "explanation",
    "privacy",
    "federation",
    "transfer",
    "agreement",
    "sparsity",
    "size",
    "latency",
]

Event = Literal["", "added", "again", "kept", "voided"]
EVENTS: tuple[Event, ...] = ("added", "kept", "voided", "again")
STATUSES = ("holds", "fails", "void", "unverifiable")


@dataclass(frozen=True)
class Cell:
    """What a stage did to one claim.

    Attributes:
        event: nothing, added, again (measured again), kept or voided.
        value: the value stated or voided, as shown.
    """

    event: Event = ""
    value: str = ""


@dataclass(frozen=True)
class Track:
    """One claim through all stages.

    Attributes:
        claim: its row of claims.json.
        name: what its kind is called.
        about: data set, split and conditions, where it has them.
        status: holds, fails, void, unverifiable; empty where nobody computed it.
        value: its value as shown.
        exact: its value, not rounded.
        interval: its interval as shown.
        n: rows it was measured on, as shown.
        cells: one for each stage.
        why: what became of it, where it does not simply hold.
    """

    claim: Mapping[str, Any]
    name: Phrase
    about: Phrase | None
    status: str
    value: str
    exact: str
    interval: Phrase | None
    n: Phrase | None
    cells: tuple[Cell, ...]
    why: Phrase | None


def kind_of(claim: Mapping[str, Any]) -> str:
    """The kind of a claim."""
    return str(claim.get("kind") or "")


def unit_of(claim: Mapping[str, Any]) -> str:
    """The unit of a claim's value."""
    return str(claim.get("unit") or "")


def digits_of(run: RunFiles, claim: Mapping[str, Any], value: object = None) -> int:
    """Digits more than usual that keep a claim's value from reading like the limit it misses."""
    kind, unit = kind_of(claim), unit_of(claim)
    amount = number(claim.get("value") if value is None else value)
    bounds = (parse_bound(item.get("bound")) for item in run.require if item.get("kind") == kind)
    if amount is None:
        return 0
    return max((digits_apart(amount, b.limit, unit, kind) for b in bounds if b), default=0)


def value_of(run: RunFiles, claim: Mapping[str, Any]) -> str:
    """The value of a claim as shown."""
    return shown(claim.get("value"), unit_of(claim), kind_of(claim), digits_of(run, claim))


def interval_of(run: RunFiles, claim: Mapping[str, Any]) -> Phrase | None:
    """The interval of a claim as shown."""
    extra = digits_of(run, claim)
    return shown_interval(claim.get("interval"), unit_of(claim), kind_of(claim), extra)


def where_of(claim: Mapping[str, Any]) -> Phrase | None:
    """`reviews, test split`."""
    dataset, split = claim.get("dataset"), claim.get("split")
    if dataset and split == "out-of-fold":
        return say("where.folds", dataset=dataset)
    if dataset and split:
        return say("where.split", dataset=dataset, split=split)
    return say("where.dataset", dataset=dataset or split) if dataset or split else None


def conditions_of(
    run: RunFiles, claim: Mapping[str, Any], hidden: Collection[str] = ()
) -> Phrase | None:
    """`batch 1, runtime onnx`; nothing `hidden`, or the same for every claim of the run."""
    return chain(
        literal(value)
        if name == "resampling"
        else say(
            "condition",
            name=str(name).replace("_", " "),
            value=literal(shown(value) if number(value) is None else f"{value:g}"),
        )
        for name, value in sorted(as_map(claim.get("conditions")).items())
        if name not in run.common and name not in hidden
    )


def about_of(run: RunFiles, claim: Mapping[str, Any]) -> Phrase | None:
    """Data set, split and conditions of a claim."""
    where, conditions = where_of(claim), conditions_of(run, claim)
    if claim.get("dataset") and "resampling" in as_map(claim.get("conditions")):
        # the condition says already that the rows were out of fold
        where = say("where.dataset", dataset=claim["dataset"])
    return chain([phrase for phrase in (where, conditions) if phrase is not None], "dot")


def _order(claim: Mapping[str, Any]) -> tuple[int, str]:
    family = kind_of(claim).partition(".")[0]
    return (_FAMILIES.index(family), "") if family in _FAMILIES else (len(_FAMILIES), family)


def replay(run: RunFiles) -> dict[str, tuple[Cell, ...]]:
    """For each claim (by identity), what every stage did to it.

    The passport's rule: a stage voids every claim of a kind that it does not keep. Where no stage
    recorded what it keeps, only the stages that state claims are known.
    """
    history = run.history or tuple(
        (index, claim)
        for claim in run.claims
        if (index := as_index(claim.get("stage"))) is not None
    )
    stated: dict[int, dict[str, Mapping[str, Any]]] = {}
    for index, claim in history:
        stated.setdefault(index, {})[identity(claim)] = claim
    live: dict[str, Mapping[str, Any]] = {}
    cells: dict[str, list[Cell]] = {identity(claim): [] for _, claim in history}
    for stage in run.stages:
        new = stated.get(stage.index, {})
        for key, row in cells.items():
            event = _event(key, stage, new, live, bool(row) and any(cell.event for cell in row))
            about = new.get(key) or live.get(key)
            row.append(Cell(event, value_of(run, about) if about is not None and event else ""))
            if event == "voided":
                del live[key]
        live.update(new)
    return {key: tuple(row) for key, row in cells.items()}


def _event(
    key: str,
    stage: StageEntry,
    new: Mapping[str, Mapping[str, Any]],
    live: Mapping[str, Mapping[str, Any]],
    seen: bool,
) -> Event:
    if key in new:
        return "again" if seen else "added"
    if key not in live or stage.keeps is None:
        return ""
    return "kept" if stage.does_keep(kind_of(live[key])) else "voided"


def tracks(run: RunFiles) -> list[Track]:
    """All claims of a run with their way through the stages, families in a reader's order."""
    cells = replay(run)
    empty = tuple(Cell() for _ in run.stages)
    return [
        _track(run, claim, cells.get(identity(claim), empty))
        for claim in sorted(run.claims, key=_order)
    ]


def _track(run: RunFiles, claim: Mapping[str, Any], cells: tuple[Cell, ...]) -> Track:
    status = str(claim.get("status") or "")
    n = as_index(claim.get("n"))
    return Track(
        claim=claim,
        name=kind_name(kind_of(claim)),
        about=about_of(run, claim),
        status=status if status in STATUSES else "",
        value=value_of(run, claim),
        exact=exact(claim.get("value")),
        interval=interval_of(run, claim),
        n=None if n is None else say("rows.n", n=f"{n:,}"),
        cells=cells,
        why=_why(run, claim, cells),
    )


def voided_by(run: RunFiles, cells: tuple[Cell, ...]) -> StageEntry | None:
    """The last stage that voided a claim, where it was not measured again since."""
    for stage, cell in reversed(list(zip(run.stages, cells, strict=True))):
        if cell.event == "voided":
            return stage
        if cell.event:
            return None
    return None


def _why(run: RunFiles, claim: Mapping[str, Any], cells: tuple[Cell, ...]) -> Phrase | None:
    status = claim.get("status")
    stage = voided_by(run, cells)
    if status == "void" and stage is not None:
        return say("claims.voided_by", index=stage.index, name=stage.name)
    if status in ("holds", "void") or not status:
        return None
    measured, value = number(claim.get("measured")), number(claim.get("value"))
    if measured is not None and value is not None and measured != value:
        unit, kind = unit_of(claim), kind_of(claim)
        extra = digits_apart(value, measured, unit, kind)
        return say(
            "claims.claimed",
            claimed=shown(value, unit, kind, extra),
            measured=shown(measured, unit, kind, extra),
        )
    return literal(claim["why"]) if claim.get("why") else None
