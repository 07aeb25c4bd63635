"""What each column of a table is, and how that is inferred from the table.

Inference reads the data, and can be overridden column by column: a column whose `kind` is given
is not read for it. Its rules, in order:

| stored as | becomes |
| --- | --- |
| boolean; integers with the two values 0 and 1; strings such as yes/no | `boolean` |
| integers, floats, decimals | `numeric`: order carries meaning more often than not |
| dates, timestamps | `time` |
| dictionary-encoded strings | `categorical` |
| strings that are all ISO 8601 dates | `time` |
| strings that are all numbers (no leading zeros), with over 20 distinct | `numeric` |
| strings with 40 characters or more on average that are over 20 or nearly all differ | `text` |
| strings that nearly all differ (over half of the rows, over 20), of 3 words or more | `text` |
| other strings that nearly all differ | dropped: an identifier |
| other strings | `categorical` |
| image files, or raw pixels of a fixed shape | `image` |
| nothing but missing values | dropped |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import field_validator, model_validator

from assay.config import Config
from assay.errors import LoadError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["numeric", "categorical", "text", "boolean", "time", "image"]
Role = Literal["feature", "label", "id", "unit", "group", "site", "sensitive", "time", "drop"]

#: strings of this many characters on average are text
TEXT_LENGTH = 40.0
#: and so are strings of this many words on average that nearly all differ
TEXT_WORDS = 3.0
#: at most this many distinct values may be a code rather than a quantity or an identifier
FEW = 20
#: a number as people write it; one that begins with a zero is a code
_NUMBER = r"^\s*[-+]?(0|[1-9][0-9]*|0?\.[0-9]+|(0|[1-9][0-9]*)\.[0-9]*)([eE][-+]?[0-9]+)?\s*$"
#: a date, perhaps with a time, as ISO 8601 writes it
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)?$"


def as_names(value: Any) -> Any:
    """The names of a list of categories: YAML reads `[1, yes]` as an integer and a boolean."""
    if isinstance(value, (list, tuple)):
        return tuple(category_name(item) for item in value)
    return value


def category_name(value: Any) -> Any:
    """The name of a class or category that YAML read as a number or a boolean."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, (int, float)) else value


class Column(Config):
    """One column.

    Attributes:
        kind: what its values are.
        role: what it is for. Only `feature` columns (and those of kind `text`) reach a network;
            a `sensitive` column is kept for audits and mitigation, and never a feature.
        categories: all values it may take, when declared: they are not read from the data.
        bounds: smallest and largest value, when declared: values are clipped to them, and no
            statistic is read from the data.
        sensitive: audits may split results by it, whatever its role.
        missing: whether values may be missing, when declared (None: seen in the training rows).

    Raises:
        ValueError: bounds out of order, categories that repeat, or either on the wrong kind.
    """

    kind: Kind
    role: Role = "feature"
    categories: tuple[str, ...] | None = None
    bounds: tuple[float, float] | None = None
    sensitive: bool = False
    missing: bool | None = None

    @field_validator("categories", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return as_names(value)

    @model_validator(mode="after")
    def _check(self) -> Column:
        if self.bounds is not None:
            if self.kind not in ("numeric", "time"):
                raise ValueError(f"a {self.kind} column has no bounds; remove bounds")
            if not self.bounds[0] < self.bounds[1]:
                raise ValueError("bounds are [smallest, largest]; put the smaller one first")
        if self.categories is not None:
            if self.kind != "categorical":
                raise ValueError(f"a {self.kind} column has no categories; remove categories")
            if len(set(self.categories)) != len(self.categories) or not self.categories:
                raise ValueError("categories are empty or repeat; list each once")
        return self

    def declared(self) -> bool:
        """Whether enough is said that preprocessing reads no statistic of a feature."""
        if self.kind == "image":
            return True
        if self.kind == "categorical":
            return self.categories is not None
        if self.kind == "boolean":
            return self.missing is not None
        return self.bounds is not None


class Override(Config):
    """What a recipe says of one column; whatever is None is inferred. Fields as in `Column`."""

    kind: Kind | None = None
    role: Role | None = None
    categories: tuple[str, ...] | None = None
    bounds: tuple[float, float] | None = None
    sensitive: bool | None = None
    missing: bool | None = None

    @field_validator("categories", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return as_names(value)

    def implied_kind(self) -> Kind | None:
        """The kind that is said, or that follows from what is said."""
        if self.kind is not None:
            return self.kind
        if self.categories is not None:
            return "categorical"
        return "numeric" if self.bounds is not None else None

    def over(self, base: Override) -> Override:
        """This override where it says something, `base` elsewhere."""
        said = {k: getattr(self, k) for k in type(self).model_fields}
        return base.model_copy(update={k: v for k, v in said.items() if v is not None})

    @classmethod
    def of(cls, column: Column) -> Override:
        """All that a column says."""
        return cls(**{name: getattr(column, name) for name in cls.model_fields})


class Schema(Config):
    """The columns of a data set, by name, in the order of the table."""

    columns: dict[str, Column]

    def with_role(self, *roles: Role) -> tuple[str, ...]:
        """Names of the columns with one of these roles."""
        return tuple(name for name, column in self.columns.items() if column.role in roles)

    def only(self, role: Role) -> str | None:
        """The one column with that role, if there is one."""
        return next(iter(self.with_role(role)), None)

    @property
    def label(self) -> str | None:
        """The label column."""
        return self.only("label")

    @property
    def unit(self) -> str | None:
        """The column of the privacy unit (None: a row)."""
        return self.only("unit")

    @property
    def id(self) -> str | None:
        """The column that names rows (None: their position does)."""
        return self.only("id")

    def features(self) -> tuple[str, ...]:
        """Columns that are features of a table: role `feature`, any kind but text and image."""
        return tuple(
            n for n in self.with_role("feature") if self.columns[n].kind not in ("text", "image")
        )

    def text_columns(self) -> tuple[str, ...]:
        """Columns of text that a network may read."""
        return tuple(n for n in self.with_role("feature") if self.columns[n].kind == "text")

    def image_columns(self) -> tuple[str, ...]:
        """Columns of pictures that a network may read."""
        return tuple(n for n in self.with_role("feature") if self.columns[n].kind == "image")

    def sensitive(self) -> tuple[str, ...]:
        """Columns by which audits may split results."""
        return tuple(n for n, c in self.columns.items() if c.sensitive or c.role == "sensitive")

    def undeclared(self) -> tuple[str, ...]:
        """Features whose preprocessing reads training rows: no bounds or categories declared."""
        return tuple(name for name in self.features() if not self.columns[name].declared())

    def find(self, name: str, where: str) -> Column:
        """A column by name.

        Raises:
            LoadError: there is none; says which is closest.
        """
        try:
            return self.columns[name]
        except KeyError:
            raise LoadError(
                f"no column {name!r}", where=where, mend=did_you_mean(name, self.columns)
            ) from None


def check_names(names: Iterable[str], where: str) -> None:
    """Refuse a table in which two columns share a name.

    Raises:
        LoadError: says which.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise LoadError(
                f"two columns are called {name!r}", where=where, mend="rename one of them"
            )
        seen.add(name)


def infer(
    table: pa.Table, overrides: Mapping[str, Override] | None = None, where: str = "data"
) -> tuple[Schema, tuple[str, ...]]:
    """The schema of a table.

    Args:
        table: the table.
        overrides: what is known of some columns.
        where: name of the table, for messages.

    Returns:
        The schema, and the names of the columns whose kind was read from the data.

    Raises:
        LoadError: an override names no column, two columns share a name, or a column holds what
            no table can (lists, bytes that are no pictures).
    """
    from assay.data.columns import check_type
    from assay.data.images import check_kind, is_image

    overrides = dict(overrides or {})
    check_names(table.column_names, where)
    for name in overrides:
        if name not in table.column_names:
            raise LoadError(
                f"no column {name!r}", where=where, mend=did_you_mean(name, table.column_names)
            )
    columns: dict[str, Column] = {}
    read: list[str] = []
    for name in table.column_names:
        said = overrides.get(name, Override())
        kind, role = said.implied_kind(), said.role
        if role == "drop":
            columns[name] = Column(kind=kind or "categorical", role="drop")
            continue
        if kind != "image" and not is_image(table.column(name)):
            check_type(table.column(name), name, where)
        if kind is None:
            read.append(name)
            kind, usable = infer_kind(table.column(name), label=role == "label")
            if not usable and role is None:
                role = "drop"
        check_kind(table.column(name), name, kind, role, where)
        values = {
            key: getattr(said, key)
            for key in ("categories", "bounds", "sensitive", "missing")
            if getattr(said, key) is not None
        }
        columns[name] = _column(name, where, kind=kind, role=role or "feature", **values)
    return Schema(columns=columns), tuple(read)


def _column(name: str, where: str, **values: Any) -> Column:
    from assay.config import build
    from assay.errors import UsageError

    try:
        return build(Column, values)
    except UsageError as error:
        raise LoadError(error.what, where=f"{where}: column {name!r}", mend=error.mend) from None


def infer_kind(column: pa.ChunkedArray, label: bool = False) -> tuple[Kind, bool]:
    """The kind of one column, and whether it is of use as a feature.

    Args:
        column: its values.
        label: it is the label, for which whole numbers with few distinct values are categories.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from assay.data.images import is_image

    kind, types = column.type, pa.types
    if is_image(column):
        return "image", True
    if types.is_dictionary(kind):
        return "categorical", True
    if types.is_null(kind):
        return "categorical", False
    if types.is_boolean(kind):
        return "boolean", True
    if types.is_timestamp(kind) or types.is_date(kind):
        return "time", column.null_count < len(column)
    if types.is_integer(kind):
        distinct = pc.unique(column.drop_null())
        if label and len(distinct) <= FEW:
            return "categorical", True
        two = {value.as_py() for value in distinct} if len(distinct) <= 2 else set()
        return ("boolean" if two == {0, 1} else "numeric"), len(distinct) > 0
    if types.is_floating(kind) or types.is_decimal(kind) or types.is_duration(kind):
        return _infer_float(column, label)
    return _infer_string(column.cast(pa.large_string()).drop_null())


def _infer_float(column: pa.ChunkedArray, label: bool) -> tuple[Kind, bool]:
    import numpy as np

    from assay.data.columns import floats_of

    values = floats_of(column)
    values = values[~np.isnan(values)]
    whole = bool(np.isfinite(values).all() and (values == values.round()).all())
    if label and whole and len(np.unique(values)) <= FEW:
        return "categorical", True
    return "numeric", len(values) > 0


def _infer_string(values: pa.ChunkedArray) -> tuple[Kind, bool]:
    import pyarrow.compute as pc

    from assay.data.columns import BOOLEANS

    if len(values) == 0:
        return "categorical", False
    distinct = pc.unique(values)
    count = len(distinct)
    if count == 2:
        words = {str(word).strip().lower() for word in distinct.to_pylist()}
        if any(words == set(pair) for pair in BOOLEANS):
            return "boolean", True
    if pc.all(pc.match_substring_regex(distinct, _DATE)).as_py():
        return "time", True
    if count > FEW and pc.all(pc.match_substring_regex(distinct, _NUMBER)).as_py():
        return "numeric", True
    mostly = count > len(values) / 2
    if (count > FEW or mostly) and pc.mean(pc.utf8_length(values)).as_py() >= TEXT_LENGTH:
        return "text", True
    if count > FEW and mostly:
        words_each = pc.mean(pc.count_substring_regex(values, r"\S+")).as_py()
        return ("text", True) if words_each >= TEXT_WORDS else ("categorical", False)
    return "categorical", True
