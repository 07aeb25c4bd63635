"""Frozen, strict configuration values, and their way from and to plain YAML data.

A recipe is a tree of `Config` values. Where a field takes a *part* (a technique chosen by name),
it is annotated with `PartField`, and `build` turns each of

    objective: supervised
    objective: {supervised: {label_smoothing: 0.1}, distillation: 0.5}

into instances of the registered classes; `dump` turns them back. Every mistake is reported with
the path to it (`stages[0].finetune.step.adamw.lr`) and, for a mistyped word, the likely one.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from assay.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class PartField:
    """Marks a field as holding parts of a registered kind.

    Attributes:
        kind: the kind of part.
        many: the field is a tuple of parts written as a mapping from name to settings;
            otherwise one part, written as its name or as a mapping with one key.
        default: what stands for a field that is not given, written as in a recipe.
    """

    kind: str
    many: bool = False
    default: Any = None


class Config(BaseModel):
    """A frozen value with named, checked fields; unknown fields and non-finite numbers fail."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    #: filled in by `assay.registry.register`
    part_kind: ClassVar[str] = ""
    part_name: ClassVar[str] = ""
    #: the field that a bare scalar in YAML sets (`distillation: 0.5` sets `weight`), if any
    shorthand: ClassVar[str | None] = None
    #: the one field that takes all that is written under the part's name (`audit: {quality: {}}`
    #: sets `audits`), if any; `dump` writes it back that way
    inline: ClassVar[str | None] = None

    @model_validator(mode="before")
    @classmethod
    def _build_part_fields(cls, values: Any) -> Any:
        """Let Python callers write parts as a recipe does, and fill in the default parts."""
        if not isinstance(values, Mapping):
            return values
        out = dict(values)
        for name in cls.model_fields:
            marker = _part_field(cls, name)
            if marker is not None:
                raw = out.get(name, marker.default)
                if raw is None and marker.many:
                    raw = ()
                out[name] = _build_parts(marker, raw, name)
        return out


T = TypeVar("T", bound=Config)


def _part_field(cls: type[Config], field: str) -> PartField | None:
    for item in cls.model_fields[field].metadata:
        if isinstance(item, PartField):
            return item
    return None


def _nested_config(annotation: Any) -> type[Config] | None:
    """The Config class in an annotation such as `X`, `X | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType):
        found = [c for c in map(_nested_config, get_args(annotation)) if c is not None]
        return found[0] if len(found) == 1 else None
    return None


def build(cls: type[T], raw: Any, path: str = "") -> T:
    """Build a `cls` from plain data.

    Args:
        cls: the configuration class.
        raw: a mapping, an instance of `cls`, None (all defaults) or the scalar of `cls.shorthand`.
        path: where `raw` stands in the recipe, for messages.

    Raises:
        UsageError: an unknown key, a wrong type, a missing or an invalid value.
    """
    if isinstance(raw, cls):
        return raw
    if raw is None:
        raw = {}
    elif cls.inline is not None:
        raw = {cls.inline: raw}
    if not isinstance(raw, Mapping):
        if cls.shorthand is None:
            raise UsageError(
                f"expected a mapping, got {raw!r}",
                where=path,
                mend="write its settings as 'key: value' pairs: " + ", ".join(cls.model_fields),
            )
        raw = {cls.shorthand: raw}
    values: dict[str, Any] = {}
    for key, value in raw.items():
        here = f"{path}.{key}" if path and key != cls.inline else path or str(key)
        if key not in cls.model_fields:
            raise UsageError(
                f"unknown key {str(key)!r}",
                where=here,
                mend=did_you_mean(str(key), cls.model_fields),
            )
        marker = _part_field(cls, key)
        nested = _nested_config(cls.model_fields[key].annotation)
        if marker is not None:
            values[key] = _build_parts(marker, value, here)
        elif (
            nested is not None
            and (isinstance(value, Mapping) or nested.shorthand)
            and value is not None
        ):
            values[key] = build(nested, value, here)
        else:
            values[key] = value
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise _as_usage_error(error, path) from None


def _build_parts(marker: PartField, raw: Any, path: str) -> Any:
    if marker.many:
        if isinstance(raw, str):
            raw = {raw: None}
        if isinstance(raw, (list, tuple)):
            if all(isinstance(item, Config) for item in raw):
                return tuple(raw)
            if all(isinstance(item, str) for item in raw):
                named = ", ".join(f"{name}: {{}}" for name in raw)
                raise UsageError(
                    "expected a mapping from name to settings",
                    where=path,
                    mend=f"write {{{named}}}",
                )
            return tuple(
                build_part(marker.kind, item, f"{path}[{i}]") for i, item in enumerate(raw)
            )
        if isinstance(raw, Config):
            return (raw,)
        if not isinstance(raw, Mapping):
            raise UsageError(
                f"expected names of {marker.kind} parts, got {raw!r}",
                where=path,
                mend="write 'name: {settings}'",
            )
        return tuple(build_part(marker.kind, {name: value}, path) for name, value in raw.items())
    return build_part(marker.kind, raw, path)


def build_part(kind: str, raw: Any, path: str = "") -> Any:
    """Build one registered part from its name, or from a mapping of its name to its settings.

    Raises:
        UsageError: no such part, or its settings are wrong.
    """
    from assay import registry

    if raw is None or (isinstance(raw, Config) and raw.part_kind == kind):
        return raw
    if isinstance(raw, str):
        raw = {raw: None}
    if not isinstance(raw, Mapping) or len(raw) != 1:
        what = f"got {len(raw)} of them" if isinstance(raw, Mapping) else f"got {raw!r}"
        raise UsageError(
            f"expected the name of one {kind} part, {what}",
            where=path,
            mend="one of: " + ", ".join(registry.names(kind)),
        )
    ((name, settings),) = raw.items()
    here = f"{path}.{name}" if path else str(name)
    return build(registry.find(kind, str(name), here), settings, here)


def dump(value: Any) -> Any:
    """Plain data (dict, list, str, int, float, bool, None) from a config; `build` inverts it."""
    if isinstance(value, Config):
        out: dict[str, Any] = {}
        for name in type(value).model_fields:
            field, marker = getattr(value, name), _part_field(type(value), name)
            if marker is None or field is None:
                out[name] = dump(field)
            elif marker.many and len({part.part_name for part in field}) == len(field):
                out[name] = {part.part_name: dump(part) for part in field}
            elif marker.many:
                out[name] = [dump_part(part) for part in field]
            else:
                out[name] = dump_part(field)
        return out if value.inline is None else out[value.inline]
    if isinstance(value, Mapping):
        return {str(k): dump(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [dump(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(dump(item) for item in value)
    return value


def dump_part(part: Config) -> dict[str, Any]:
    """`{name: settings}` of a registered part."""
    return {part.part_name: dump(part)}


def _as_usage_error(error: ValidationError, path: str) -> UsageError:
    first = error.errors(include_url=False)[0]
    where = path
    for step in first["loc"]:
        if isinstance(step, int):
            where += f"[{step}]"
        elif step not in ("function-after", "function-before"):
            where += f".{step}" if where else str(step)
    kind, message = first["type"], first["msg"]
    if kind == "missing":
        return UsageError("this key is missing", where=where, mend="add it")
    if kind == "extra_forbidden":
        return UsageError("unknown key", where=where, mend="remove it")
    if kind in ("value_error", "assertion_error"):
        what, _, mend = message.removeprefix("Value error, ").partition("; ")
        return UsageError(what, where=where, mend=mend or None)
    given = first.get("input")
    shown = repr(given) if not isinstance(given, float) or math.isfinite(given) else str(given)
    text = message[0].lower() + message[1:]
    return UsageError(f"{text}, got {shown[:80]}", where=where, mend="correct the value")


def fields_of(cls: type[Config]) -> dict[str, tuple[str, Any]]:
    """Name -> (type as text, default) of each field, for documentation and templates."""
    out = {}
    for name, info in cls.model_fields.items():
        annotation = info.annotation
        text = getattr(annotation, "__name__", None) if not typing.get_args(annotation) else None
        out[name] = (
            text or str(annotation).replace("typing.", ""),
            info.get_default(call_default_factory=True),
        )
    return out
