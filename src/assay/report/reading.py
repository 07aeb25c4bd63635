"""What a run folder says, read into one value. Every file but the folder itself may be missing.

A missing file or key leaves its part of the report out. A damaged `claims.json` or passport is
refused: a page that silently left out a failed claim would lie.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from assay.errors import ArtefactError, LoadError
from assay.files import parse_json, read_json
from assay.report.logs import lines, text, wall_times

#: the kind of claim of what private data were charged
EPSILON = "privacy.epsilon"
#: files of which at least one makes a folder a run folder
_MARKS = ("recipe.yaml", "plan.json", "claims.json", "environment.json", "metrics.jsonl", "model")


@dataclass(frozen=True)
class StageEntry:
    """One stage as the passport (or else the plan) records it.

    Attributes:
        index: its place in the recipe, from 0; below 0 for stages of the base model's runs.
        name: its name.
        keeps: patterns of the kinds it keeps; None where nobody recorded them.
        reads: its readings of data (`split`, `influences`, `why`, `private`).
        moves: which parameters move, in words; None where nobody recorded it.
        adds: patterns of the kinds it measures.
        notes: what a reader should know.
        used: what was really used.
        seconds: wall time, None where it was not recorded.
    """

    index: int
    name: str
    keeps: tuple[str, ...] | None = None
    reads: tuple[Mapping[str, Any], ...] = ()
    moves: str | None = None
    adds: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    used: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None

    def does_keep(self, kind: str) -> bool:
        """Whether a claim of that kind stays true through the stage."""
        return any(fnmatchcase(kind, pattern) for pattern in self.keeps or ())


@dataclass(frozen=True)
class RunFiles:
    """A run folder's content, as plain data.

    Attributes:
        folder: how a reader would call the folder (`runs/reviews/3`).
        recipe_name: name of the recipe.
        run: name of the run.
        recipe_text: recipe.yaml as written.
        recipe: recipe.yaml parsed, empty where it is none.
        environment: environment.json.
        model: the base model's card.
        data: the data card, with `digest` and `split_rows` where recorded.
        task: name of the task.
        stages: the stages in order.
        metrics: lines of metrics.jsonl.
        evidence: (stage, audit) -> what the audit kept, in order of stage.
        claims: rows of claims.json, in its order.
        require: required claims of claims.json.
        ok: whether the run says that all is well; None where it says nothing.
        history: (stage, claim) of every claim ever stated, from the passport.
        passport: number of records, and the digest that heads them.
        origins: what the passport says of the beginning of this run and of those before it.
        final: the card of the model that is handed on; the base model's where none was written.
    """

    folder: str
    recipe_name: str
    run: str
    recipe_text: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    task: str = ""
    stages: tuple[StageEntry, ...] = ()
    metrics: tuple[Mapping[str, Any], ...] = ()
    evidence: Mapping[tuple[int, str], Mapping[str, Any]] = field(default_factory=dict)
    claims: tuple[Mapping[str, Any], ...] = ()
    require: tuple[Mapping[str, Any], ...] = ()
    ok: bool | None = None
    history: tuple[tuple[int, Mapping[str, Any]], ...] = ()
    passport: tuple[int, str] = (0, "")
    origins: tuple[Mapping[str, Any], ...] = ()
    final: Mapping[str, Any] = field(default_factory=dict)

    @property
    def private(self) -> bool:
        """Whether the data are private, so that the report is for its owner's eyes."""
        return bool(self.data.get("private"))

    @property
    def machine(self) -> str:
        """The machine that the run ran on; empty where it was not recorded."""
        return str(self.environment.get("machine") or "")

    @property
    def common(self) -> Mapping[str, Any]:
        """Conditions that never vary in this run, and so need not be told with every claim."""
        found: dict[str, set[str]] = {"machine": set(), "threads": set()}
        for claim in self.claims:
            for key, value in as_map(claim.get("conditions")).items():
                found.setdefault(key, set()).add(str(value))
        return {k: min(found[k]) for k in ("machine", "threads") if len(found[k]) == 1}

    def stage(self, index: object) -> StageEntry | None:
        """The stage of an index."""
        return next((stage for stage in self.stages if stage.index == index), None)


def identity(claim: Mapping[str, Any]) -> str:
    """As `assay.claims.Claim.identity`, for plain data."""
    about = [claim.get("kind"), claim.get("dataset"), claim.get("split")]
    # a key and no digest: it escapes what UTF-8 cannot hold
    return json.dumps([*about, as_map(claim.get("conditions"))], sort_keys=True)


def as_map(value: Any) -> Mapping[str, Any]:
    """`value` where it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def as_list(value: Any) -> list[Any]:
    """`value` where it is a list, else an empty one."""
    return list(value) if isinstance(value, (list, tuple)) else []


def _maps(value: Any) -> tuple[Mapping[str, Any], ...]:
    return tuple(item for item in as_list(value) if isinstance(item, Mapping))


def _words(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in as_list(value))


def as_index(value: Any) -> int | None:
    """`value` where it is a whole number, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def first_map(*values: Any) -> Mapping[str, Any]:
    """The first mapping among them that is not empty."""
    return next((value for value in values if isinstance(value, Mapping) and value), {})


def read_run(folder: Path) -> RunFiles:
    """Read a run folder.

    Args:
        folder: `runs/<recipe>/<n>`.

    Raises:
        LoadError: it is no folder, or holds none of a run's files.
        ArtefactError: claims.json, plan.json, environment.json, evidence or passport damaged.
    """
    if not folder.is_dir():
        raise LoadError(
            "no such run folder", where=str(folder), mend="name a folder that a run made"
        )
    if not any((folder / mark).exists() for mark in _MARKS):
        raise LoadError(
            "not a run folder: none of a run's files is in it",
            where=str(folder),
            mend="name a folder that a run made",
        )
    recipe_text = text(folder / "recipe.yaml")
    recipe = _yaml(recipe_text)
    plan = _optional_json(folder / "plan.json")
    claims = _optional_json(folder / "claims.json")
    origins, recorded, history, count = _passport(folder / "model" / "claims.jsonl")
    origin = origins[-1] if origins else {}
    model = _model(origin, plan, recipe)
    seconds = wall_times(lines(folder / "timings.jsonl"))
    place = folder.resolve()
    recipe_name = str(recipe.get("name") or origin.get("recipe") or place.parent.name or place.name)
    ok = claims.get("ok")
    return RunFiles(
        folder="/".join(place.parts[-3:]) if place.parts[-3:-2] == ("runs",) else place.name,
        recipe_name=recipe_name,
        run=place.name,
        recipe_text=recipe_text,
        recipe=recipe,
        environment=_optional_json(folder / "environment.json"),
        model=model,
        data=_data(origin, plan, recipe),
        task=_part_name(plan.get("task") or recipe.get("task")),
        stages=_stages(recorded or _maps(plan.get("stages")) or _recipe_stages(recipe), seconds),
        metrics=tuple(lines(folder / "metrics.jsonl")),
        evidence=_evidence(folder / "evidence"),
        claims=_judged(_maps(claims["claims"])) if "claims" in claims else _claims_of(history),
        require=_maps(claims.get("require")),
        ok=ok if isinstance(ok, bool) else None,
        history=history,
        passport=(count, _head(folder / "model" / "head.json")),
        origins=origins,
        final=first_map(_optional_json(folder / "model" / "config.json").get("card"), model),
    )


def _judged(claims: tuple[Mapping[str, Any], ...]) -> tuple[Mapping[str, Any], ...]:
    """The claims, of which an epsilon that is none fails, whatever replaying them gave."""
    return tuple(
        {**claim, "status": "fails"}
        if claim.get("kind") == EPSILON and claim.get("value") is None
        else claim
        for claim in claims
    )


def read_model(folder: Path) -> RunFiles:
    """What a model folder alone says: its passport. No claim has a status: nobody computed one.

    Raises:
        ArtefactError: the passport is damaged.
    """
    origins, recorded, history, count = _passport(folder / "claims.jsonl")
    origin = origins[-1] if origins else {}
    return RunFiles(
        folder=folder.name,
        recipe_name=str(origin.get("recipe") or folder.name),
        run=folder.name,
        model=_model(origin, {}, {}),
        data=_data(origin, {}, {}),
        stages=_stages(recorded, {}),
        claims=_claims_of(history),
        history=history,
        passport=(count, _head(folder / "head.json")),
    )


def _optional_json(path: Path) -> Mapping[str, Any]:
    return as_map(read_json(path)) if path.exists() else {}


def _yaml(text: str) -> Mapping[str, Any]:
    import yaml

    try:
        return as_map(yaml.safe_load(text))
    except (yaml.YAMLError, RecursionError):
        return {}


def _model(
    origin: Mapping[str, Any], plan: Mapping[str, Any], recipe: Mapping[str, Any]
) -> Mapping[str, Any]:
    found = first_map(origin.get("model"), origin.get("model_card"), plan.get("model"))
    return found or {"name": _part_name(recipe.get("model"))}


def _data(
    origin: Mapping[str, Any], plan: Mapping[str, Any], recipe: Mapping[str, Any]
) -> Mapping[str, Any]:
    written = first_map(origin.get("data"), origin.get("data_card"), plan.get("data"))
    found = dict(written or {"name": _part_name(recipe.get("data"))})
    found.setdefault("digest", origin.get("data_digest"))
    rows = first_map(found.get("split_rows"), origin.get("split_rows"), plan.get("split_rows"))
    found["split_rows"] = {
        str(split): n for split, n in rows.items() if as_index(n) is not None and n >= 0
    }
    return found


def _part_name(value: Any) -> str:
    """The name in `minilm-l6`, `{name: minilm-l6}` or `{mlp: {width: 32}}`."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and value:
        for key in ("name", "path", "part_name"):
            if isinstance(value.get(key), str):
                return str(value[key])
        return str(next(iter(value))) if len(value) == 1 else ""
    return ""


def _recipe_stages(recipe: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    return tuple({"name": _part_name(stage)} for stage in as_list(recipe.get("stages")))


def _stages(
    records: tuple[Mapping[str, Any], ...], seconds: Mapping[int, float]
) -> tuple[StageEntry, ...]:
    found = []
    for place, record in enumerate(records):
        number = as_index(record.get("index"))
        index = place if number is None else number
        effects = first_map(record.get("effects"), record)
        keeps = effects.get("keeps")
        found.append(
            StageEntry(
                index=index,
                name=str(record.get("name") or _part_name(record.get("stage")) or index),
                keeps=_words(keeps) if isinstance(keeps, (list, tuple)) else None,
                reads=_maps(effects.get("reads")),
                moves=None if effects.get("moves") is None else str(effects["moves"]),
                adds=_words(effects.get("adds")),
                notes=_words(effects.get("notes")),
                used=as_map(record.get("used")),
                seconds=seconds.get(index),
            )
        )
    return tuple(sorted(found, key=lambda stage: stage.index))


def _evidence(folder: Path) -> dict[tuple[int, str], Mapping[str, Any]]:
    found = {}
    for path in folder.glob("*.json") if folder.is_dir() else ():
        match = re.fullmatch(r"(\d+)-(.+)", path.stem)
        if match:
            found[int(match[1]), match[2]] = as_map(read_json(path))
    return dict(sorted(found.items()))


Passport = tuple[
    tuple[Mapping[str, Any], ...],
    tuple[Mapping[str, Any], ...],
    tuple[tuple[int, Mapping[str, Any]], ...],
    int,
]


def _passport(path: Path) -> Passport:
    """What claims.jsonl records.

    Stages are numbered as `assay.claims.replay` does: from 0 in the last run, below 0 in the runs
    of the models that this one descends from.
    """
    origins: list[Mapping[str, Any]] = []
    stages: list[Mapping[str, Any]] = []
    history: list[tuple[int, Mapping[str, Any]]] = []
    written = [line for line in text(path).splitlines() if line.strip()]
    before = 0
    for place, line in enumerate(written, 1):
        record = _record(parse_json(line, f"{path}:{place}"), f"{path}:{place}")
        body = as_map(record.get(str(record.get("type"))))
        if record.get("type") == "origin":
            origins.append(body)
            before = len(stages)
        elif record.get("type") == "stage":
            stages.append(body)
        elif record.get("type") == "claim":
            history.append((len(stages) - 1, as_map(body.get("claim"))))
    placed = tuple({**stage, "index": n - before} for n, stage in enumerate(stages))
    stated = tuple((n - before, claim) for n, claim in history)
    return tuple(origins), placed, stated, len(written)


def _record(line: Any, where: str) -> Mapping[str, Any]:
    """The record in a line: bare, in an in-toto Statement, or in a DSSE envelope around one."""
    value = as_map(line)
    if "payload" in value:
        try:
            payload = base64.b64decode(str(value["payload"]), validate=True)
        except (binascii.Error, ValueError) as error:
            raise ArtefactError(
                "not a signed statement", where=where, mend="restore the file from its source"
            ) from error
        value = as_map(parse_json(payload, where))
    predicate = value.get("predicate")
    return predicate if isinstance(predicate, Mapping) else value


def _claims_of(history: tuple[tuple[int, Mapping[str, Any]], ...]) -> tuple[Mapping[str, Any], ...]:
    """The newest claim of each identity, with no status: nobody computed one."""
    newest = {identity(claim): {**claim, "stage": stage} for stage, claim in history}
    return tuple(newest.values())


def _head(path: Path) -> str:
    """Hash of the last line of the passport, from a signed or a plain head."""
    head = _record(_optional_json(path), str(path))
    return str(head["last"]) if isinstance(head.get("last"), str) else ""
