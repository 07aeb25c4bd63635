"""What each column is for: what a source says, under what a recipe says."""

from __future__ import annotations

from assay.data.config import DataConfig
from assay.data.schema import Override, Role, Schema
from assay.data.source import Source
from assay.errors import LoadError, UsageError, did_you_mean

#: roles that one column at most can have
_SINGLE: tuple[Role, ...] = ("label", "id", "unit", "group", "site", "time")


def overrides(config: DataConfig, source: Source, label: str, where: str) -> dict[str, Override]:
    """What is known of each column.

    Args:
        config: the recipe's `data`.
        source: what was read.
        label: the label column.
        where: name of the data, for messages.

    Raises:
        LoadError: the recipe names a column that is not there.
        UsageError: the recipe gives one column two roles.
    """
    present = source.table.column_names
    known = dict(source.columns)
    given = _given(config, label)
    said: dict[str, str] = {}
    for name, override, key in given:
        if name not in present:
            raise LoadError(
                f"{key} names no column {name!r}", where=where, mend=did_you_mean(name, present)
            )
        if said.get(name, key) != key:
            raise UsageError(
                f"the column {name!r} is both {said[name]} and {key}",
                where=f"data.{key}",
                mend="give each column one role",
            )
        said[name] = key
        known[name] = override.over(known.get(name, Override()))
    for name, column in known.items():
        # what the source gives a role that the recipe gives to another column
        if name not in said and column.role in said.values() and column.role in _SINGLE:
            known[name] = column.model_copy(update={"role": None})
    for name, override in config.columns.items():
        known[name] = override.over(known.get(name, Override()))
    return known


def _given(config: DataConfig, label: str) -> list[tuple[str, Override, str]]:
    """(column, what is said of it, by which key) for every role the recipe gives."""
    given: list[tuple[str, Override, str]] = [(label, Override(role="label"), "label")]
    singles: tuple[tuple[str | None, Role], ...] = (
        (config.id, "id"),
        (config.unit, "unit"),
        (config.group if config.group != config.unit else None, "group"),
        (config.site, "site"),
    )
    given += [(name, Override(role=role), role) for name, role in singles if name is not None]
    given += [(name, Override(kind="text", role="feature"), "text") for name in config.text]
    given += [
        (name, Override(role="sensitive", sensitive=True), "sensitive") for name in config.sensitive
    ]
    given += [(name, Override(role="drop"), "drop") for name in config.drop]
    spec, taken = config.splits, {name for name, _, _ in given}
    if spec.column is not None and spec.column not in taken and spec.by in ("time", "given"):
        role: Role = "time" if spec.by == "time" else "drop"
        given.append((spec.column, Override(role=role), "splits.column"))
    return given


def check_single(schema: Schema) -> None:
    """Refuse two columns with a role that one column has.

    Raises:
        UsageError: says which.
    """
    for role in _SINGLE:
        found = schema.with_role(role)
        if len(found) > 1:
            raise UsageError(
                f"the columns {found[0]!r} and {found[1]!r} both have the role {role!r}",
                where="data.columns",
                mend="give it to one of them",
            )
