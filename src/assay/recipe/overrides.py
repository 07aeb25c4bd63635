"""`--set path=value`: one setting of a recipe changed from the command line.

The walk follows the schema, so that every short way of writing a recipe (`- export`,
`model: mlp`, `distillation: 0.5`) can be gone into, and a mistyped step is caught where it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from assay import registry
from assay.config import Config, PartField, _nested_config, _part_field, dump, dump_part
from assay.errors import UsageError, did_you_mean
from assay.recipe.reading import parse_yaml


def assign(cls: type[Config], raw: Mapping[str, Any], assignment: str) -> tuple[Any, str]:
    """Plain data of a `cls` with one setting changed.

    Args:
        cls: the class that `raw` describes.
        raw: plain data; not changed.
        assignment: `path=value`; the path is dotted (`stages.0.finetune.epochs`, or
            `stages.finetune.epochs` where one stage has that name), the value is YAML.

    Returns:
        the changed copy, and the path as messages write it (`stages[0].finetune.epochs`).

    Raises:
        UsageError: no `=`, an unknown path, or a value that is not YAML.
    """
    path, equals, text = assignment.partition("=")
    where = f"--set {assignment}"
    steps = [s for s in re.sub(r"\[(\d+)\]", r".\1", path.strip()).split(".") if s]
    if not equals or not steps:
        raise UsageError(
            "expected path=value", where=where, mend="write for example stages.0.finetune.epochs=1"
        )
    if steps[0] == "require" and len(steps) > 1:
        # a bare `>= 0.8` is no YAML, but what everybody would write
        plain = text.strip().startswith((">", "<", "=="))
        bound = text.strip() if plain else parse_yaml(text, where)[0]
        kind = ".".join(steps[1:])
        return {**raw, "require": _with_bound(raw.get("require"), kind, bound)}, "require"
    value, _ = parse_yaml(text, where)
    walk = _Walk(where)
    return walk.config(cls, raw, steps, value), ".".join(walk.trail).replace(".[", "[")


def _with_bound(require: Any, kind: str, bound: Any) -> Any:
    if isinstance(require, (list, tuple)):
        items = [dump(item) for item in require]
        kinds = [item.get("kind") if isinstance(item, Mapping) else item for item in items]
        found = [index for index, known in enumerate(kinds) if known == kind]
        for index in found:
            items[index] = {**_as_mapping(items[index]), "bound": bound}
        return items if found else [*items, {"kind": kind, "bound": bound}]
    return {**(require or {}), kind: bound}


def _as_mapping(item: Any) -> dict[str, Any]:
    return dict(item) if isinstance(item, Mapping) else {"kind": item}


class _Walk:
    def __init__(self, where: str) -> None:
        self.where = where
        self.trail: list[str] = []

    def unknown(self, word: str, known: Any) -> UsageError:
        at = ".".join(self.trail).replace(".[", "[") or "the recipe"
        return UsageError(
            f"no {word!r} in {at}",
            where=self.where,
            mend=did_you_mean(word, map(str, known)) if known else "correct the path",
        )

    def config(self, cls: type[Config], raw: Any, steps: list[str], value: Any) -> Any:
        if isinstance(raw, Config):
            raw = dump(raw)
        if cls.inline is not None:
            marker = _part_field(cls, cls.inline)
            if marker is None:
                return self.plain(raw, steps, value)
            return self.parts(marker, marker.default if raw is None else raw, steps, value)
        if raw is None:
            raw = {}
        elif not isinstance(raw, Mapping):
            raw = {cls.shorthand: raw} if cls.shorthand else {}
        key, rest = steps[0], steps[1:]
        if key not in cls.model_fields:
            raise self.unknown(key, cls.model_fields)
        self.trail.append(key)
        if not rest:
            return {**raw, key: value}
        marker = _part_field(cls, key)
        nested = _nested_config(cls.model_fields[key].annotation)
        old = raw.get(key)
        if marker is not None:
            new = self.parts(marker, marker.default if old is None else old, rest, value)
        elif nested is not None:
            new = self.config(nested, old, rest, value)
        else:
            new = self.plain(dump(old), rest, value)
        return {**raw, key: new}

    def parts(self, marker: PartField, raw: Any, steps: list[str], value: Any) -> Any:
        entries = _entries(raw)
        step, rest = steps[0], steps[1:]
        names = [name for name, _ in entries]
        if step.isdigit():
            index = int(step)
            if index >= len(entries):
                raise self.unknown(step, range(len(entries)))
            self.trail.append(f"[{index}]")
            if not rest:
                return [value if i == index else {n: s} for i, (n, s) in enumerate(entries)]
            if rest[0] == names[index]:
                rest = rest[1:]
        else:
            index = self.named(marker, entries, step)
        name, settings = entries[index]
        self.trail.append(name)
        if rest:
            part = registry.find(marker.kind, name, self.where)
            settings = self.config(part, settings, rest, value)
        else:
            settings = value
        entries[index] = (name, settings)
        if marker.kind == "stage" or len({n for n, _ in entries}) < len(entries):
            return [{n: s} for n, s in entries]
        return dict(entries)

    def named(self, marker: PartField, entries: list[tuple[str, Any]], name: str) -> int:
        found = [i for i, (n, _) in enumerate(entries) if n == name]
        if len(found) > 1:
            raise UsageError(
                f"{len(found)} {marker.kind} parts are named {name!r}",
                where=self.where,
                mend=f"write the index: {found[0]}.{name}",
            )
        if not found:
            listed = marker.kind == "stage"
            known = [n for n, _ in entries] if listed else registry.names(marker.kind)
            if listed or name not in known:
                raise self.unknown(name, known)
            if not marker.many:
                entries.clear()
            entries.append((name, None))
            return len(entries) - 1
        if marker.kind == "stage":
            self.trail.append(f"[{found[0]}]")
        return found[0]

    def plain(self, old: Any, steps: list[str], value: Any) -> Any:
        step, rest = steps[0], steps[1:]
        if isinstance(old, list):
            if not step.isdigit() or int(step) >= len(old):
                raise self.unknown(step, range(len(old)))
            self.trail.append(f"[{step}]")
            new = self.plain(old[int(step)], rest, value) if rest else value
            return [new if i == int(step) else item for i, item in enumerate(old)]
        if old is None or isinstance(old, dict):
            self.trail.append(step)
            new = self.plain((old or {}).get(step), rest, value) if rest else value
            return {**(old or {}), step: new}
        raise self.unknown(step, ())


def _entries(raw: Any) -> list[tuple[str, Any]]:
    """(name, settings) of parts, however they are written."""
    if raw is None:
        return []
    if isinstance(raw, str):
        return [(raw, None)]
    if isinstance(raw, Config):
        return _entries(dump_part(raw))
    if isinstance(raw, Mapping):
        return [(str(name), settings) for name, settings in raw.items()]
    if isinstance(raw, (list, tuple)):
        return [entry for item in raw for entry in _entries(item)[:1] or [("", None)]]
    return [(str(raw), None)]
