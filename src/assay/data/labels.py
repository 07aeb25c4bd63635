"""The label column as class indices or values, and what is refused of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from assay.data.columns import codes_of, dense, is_string, names_of, numbers, plain
from assay.data.source import Source
from assay.errors import LoadError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

#: a label of numbers with more distinct values than this may be no class
MANY = 20


def labelled(source: Source, label: str, drop: bool, where: str) -> Source:
    """The source without the rows that lack a label, which are refused unless `drop`.

    Raises:
        LoadError: rows lack a label; says how many and where the first is.
    """
    missing = names_of(source.table.column(label)).is_null().to_numpy()
    if not missing.any():
        return source
    if not drop:
        raise LoadError(
            f"the label column {label!r} has {int(missing.sum())} missing value(s), the first in "
            f"row {int(np.argmax(missing)) + 1}",
            where=where,
            mend="fill them in, or set 'drop_missing_label: true' to leave these rows out",
        )
    if missing.all():
        raise LoadError(
            f"the label column {label!r} has no values", where=where, mend="name another column"
        )
    return source.keep(~missing)


def class_labels(
    column: pa.ChunkedArray,
    label: str,
    declared: tuple[str, ...] | None,
    positive: str | None,
    where: str,
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """The classes and the class index of each row.

    Classes are sorted (numbers by value), or as declared; of two classes the positive one comes
    second.

    Raises:
        LoadError: one class only, a label that is a quantity, a label that was not declared, or a
            positive class that is not there.
    """
    found = dense(column)[1]
    if len(found) < 2:
        raise LoadError(
            f"the label column {label!r} holds one class only: {found[0]!r}",
            where=where,
            mend="give rows of at least two classes",
        )
    if declared is None:
        _check_quantity(column, found, label, where)
    extra = sorted(set(found) - set(declared or found))
    if extra:
        raise LoadError(
            f"the label column {label!r} holds {extra[0]!r}, which is not a declared class",
            where=where,
            mend="add it to 'classes:'",
        )
    classes = declared or tuple(sorted(found, key=_by_value))
    if positive is not None and positive not in classes:
        raise LoadError(
            f"the positive class {positive!r} is none of the label column {label!r}",
            where=where,
            mend=did_you_mean(positive, classes),
        )
    if positive is not None and len(classes) == 2:
        classes = (next(c for c in classes if c != positive), positive)
    return classes, codes_of(column, classes)[0]


def _by_value(name: str) -> tuple[int, float, str]:
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name


def _check_quantity(column: pa.ChunkedArray, found: list[str], label: str, where: str) -> None:
    import pyarrow as pa

    kind = plain(column).type
    if is_string(kind) or pa.types.is_boolean(kind) or len(found) <= MANY:
        return
    if any("." in name for name in found) or len(found) > len(column) / 5:
        raise LoadError(
            f"the label column {label!r} holds {len(found)} different numbers, which are a "
            "quantity and no classes",
            where=where,
            mend="use task: tabular-regression",
        )


def values(column: pa.ChunkedArray, label: str, where: str) -> npt.NDArray[np.float32]:
    """Targets of a regression, `[N]`.

    Raises:
        LoadError: a value is infinite or no number, or all are the same.
    """
    found = numbers(column, label, where)
    if (found == found[0]).all():
        raise LoadError(
            f"the label column {label!r} holds one value only: {found[0]:g}",
            where=where,
            mend="give rows with different values",
        )
    return found.astype(np.float32)
