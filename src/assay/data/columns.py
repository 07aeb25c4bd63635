"""Columns of a table as numpy arrays and names, with a message that points at the bad cell.

Rows are counted from 1, the first row after a header.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from assay.errors import LoadError

if TYPE_CHECKING:
    import pyarrow as pa

#: pairs of words that say yes and no, in lower case
BOOLEANS: tuple[tuple[str, str], ...] = (
    ("yes", "no"),
    ("true", "false"),
    ("y", "n"),
    ("t", "f"),
    ("1", "0"),
    ("on", "off"),
)
#: a number beyond this is a mistake, and its square would overflow
LARGEST = 1e100
_DAY = 86_400.0


def is_string(kind: pa.DataType) -> bool:
    """Whether an Arrow type is one of the string types."""
    import pyarrow as pa

    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column with dictionary encoding undone."""
    import pyarrow as pa

    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def check_type(column: pa.ChunkedArray, name: str, where: str) -> None:
    """Refuse lists, structures, binary values and whatever else is no cell of a table.

    Raises:
        LoadError: names the column.
    """
    import pyarrow as pa

    kind, types = plain(column).type, pa.types
    fine = (
        types.is_null(kind)
        or types.is_boolean(kind)
        or types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_decimal(kind)
        or types.is_duration(kind)
        or types.is_timestamp(kind)
        or types.is_date(kind)
        or is_string(kind)
    )
    if not fine:
        raise LoadError(
            f"column {name!r} holds {kind}, not numbers, text, dates or booleans",
            where=where,
            mend=f"leave it out with 'drop: [{name}]', or convert it first",
        )


def floats_of(column: pa.ChunkedArray, time: bool = False) -> npt.NDArray[np.float64]:
    """Numbers, booleans, dates (days since 1970) and durations (seconds) as float64 `[N]`.

    Missing values are NaN. Strings are read as numbers, or, with `time`, as ISO 8601 dates.

    Raises:
        pyarrow.ArrowInvalid: a string that is neither.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    column = plain(column)
    if time and is_string(column.type):
        column = _without_blanks(column).cast(pa.timestamp("us"))
    kind, scale = column.type, 1.0
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        column, scale = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64()), 1e6 * _DAY
    elif pa.types.is_duration(kind):
        column, scale = column.cast(pa.duration("us"), safe=False).cast(pa.int64()), 1e6
    elif pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif is_string(kind):
        column = pc.utf8_trim_whitespace(_without_blanks(column))
    values = column.cast(pa.float64(), safe=False)
    array: npt.NDArray[np.float64] = values.to_numpy(zero_copy_only=False).astype(np.float64)
    return array / scale if scale != 1.0 else array


def _without_blanks(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of strings in which empty ones are missing, as a CSV file has it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    blank = pc.equal(pc.utf8_trim_whitespace(column), "")
    return pc.if_else(blank, pa.scalar(None, column.type), column)


def numbers(
    column: pa.ChunkedArray, name: str, where: str, time: bool = False
) -> npt.NDArray[np.float64]:
    """A column as float64 `[N]`, NaN where missing; with `time`, strings are dates.

    Raises:
        LoadError: a value that is infinite, beyond `LARGEST`, or not a number; names column and
            row.
    """
    import pyarrow as pa

    try:
        values = floats_of(column, time)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        row, cell = _first_bad(column, time)
        raise LoadError(
            f"column {name!r}, row {row}: {cell!r} is not a {'date' if time else 'number'}",
            where=where,
            mend=f"correct the cell, or set 'columns: {{{name}: {{kind: categorical}}}}'",
        ) from None
    beyond = np.abs(values) > LARGEST
    if beyond.any():
        row = int(np.argmax(beyond))
        shown = "is infinite" if np.isinf(values[row]) else f"{values[row]:g} is too large"
        raise LoadError(
            f"column {name!r}, row {row + 1}: the value {shown}",
            where=where,
            mend="replace it with a number, or leave the cell empty if it is unknown",
        )
    return values


def check_known(column: pa.ChunkedArray, name: str, where: str) -> None:
    """Refuse a NaN among numbers: a cell whose value is not known is empty.

    Raises:
        LoadError: names column and row.
    """
    import pyarrow.compute as pc

    column = plain(column)
    known = pc.is_valid(_without_blanks(column) if is_string(column.type) else column)
    failed = np.isnan(floats_of(column)) & known.to_numpy()
    if failed.any():
        raise LoadError(
            f"column {name!r}, row {int(np.argmax(failed)) + 1}: the value is NaN",
            where=where,
            mend="replace it with a number, leave the cell empty if it is unknown, or set "
            f"'columns: {{{name}: {{missing: true}}}}'",
        )


def _first_bad(column: pa.ChunkedArray, time: bool) -> tuple[int, str]:
    """Row (from 1) and value of the first cell that is no number, or no date."""
    import pyarrow as pa

    low, high = 0, len(column)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            floats_of(column.slice(low, middle - low), time)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            high = middle
        else:
            low = middle
    return low + 1, str(column[low].as_py())[:40]


def names_of(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values as category names (string): whole floats without their point, booleans true/false.

    A category has one name whether a file stored it as 1, 1.0 or "1"; an empty one is missing.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    column = plain(column)
    kind = column.type
    if pa.types.is_null(kind):
        return column.cast(pa.string())
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float64()), column)
        finite = column.drop_null()
        if pc.all(pc.equal(finite, pc.round(finite))).as_py() is not False and (
            len(finite) == 0 or abs(pc.max(pc.abs(finite)).as_py()) < 2**53
        ):
            column = column.cast(pa.int64())
    column = column.cast(pa.string())
    return _without_blanks(column)


def codes_of(
    column: pa.ChunkedArray, categories: tuple[str, ...]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Index of each value among `categories` (-1: none of them, or missing), and where missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = names_of(column)
    index = pc.index_in(names, value_set=pa.array(categories, type=pa.string()))
    codes = pc.fill_null(index, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    missing = names.is_null().to_numpy(zero_copy_only=False).astype(np.bool_)
    codes[missing] = -1
    return codes, missing


def truths(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """A boolean column as 1.0, 0.0 and NaN (missing, or a word that says neither), `[N]`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    words = names_of(column)
    lower = pc.utf8_lower(pc.utf8_trim_whitespace(words))
    result = np.full(len(words), np.nan)
    for value, place in ((1.0, 0), (0.0, 1)):
        said = pa.array([pair[place] for pair in BOOLEANS])
        result[pc.is_in(lower, value_set=said).to_numpy(zero_copy_only=False)] = value
    return result


def dense(values: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Index of each row's value by first appearance (-1: missing) `[N]`, and the values as text."""
    import pyarrow as pa

    encoded = names_of(values).combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = (
            pa.concat_arrays(encoded.chunks) if encoded.num_chunks else pa.array([], pa.string())
        )
    encoded = encoded.dictionary_encode()
    index = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return index, encoded.dictionary.to_pylist()
