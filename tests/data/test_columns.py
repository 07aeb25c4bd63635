from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from assay.data.columns import codes_of, dense, floats_of, names_of, numbers, truths
from assay.errors import LoadError

NAN = float("nan")


def chunked(*chunks: list[object]) -> pa.ChunkedArray:
    return pa.chunked_array([list(chunk) for chunk in chunks])


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (chunked([1, None], [3]), [1, NAN, 3]),
        (chunked([True, None, False]), [1, NAN, 0]),
        (chunked([" 1.5", "", None, "-2e3 "]), [1.5, NAN, NAN, -2000]),
        (chunked([None, None]), [NAN, NAN]),
        (chunked([dt.date(1970, 1, 3), None]), [2, NAN]),
        (chunked([dt.datetime(1969, 12, 31, 12)]), [-0.5]),
        (chunked([dt.timedelta(minutes=1)]), [60]),
        (chunked(["7", "8"]).dictionary_encode(), [7, 8]),
        (pa.chunked_array([pa.array([2**60 + 1])]), [2.0**60]),
    ],
)
def test_floats_of(column: pa.ChunkedArray, expected: list[float]) -> None:
    values = floats_of(column)
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, expected)


def test_dates_as_text() -> None:
    assert floats_of(chunked(["1970-01-02", "1970-01-01T06:00"]), time=True).tolist() == [1, 0.25]


@pytest.mark.parametrize(
    ("cells", "time", "message"),
    [
        (
            ["1", "2", "x", "y"],
            False,
            (
                "t: column 'c', row 3: 'x' is not a number; correct the cell, or set "
                "'columns: {c: {kind: categorical}}'"
            ),
        ),
        (
            ["2024-01-01", "soon"],
            True,
            (
                "t: column 'c', row 2: 'soon' is not a date; correct the cell, or set "
                "'columns: {c: {kind: categorical}}'"
            ),
        ),
        (
            [1.0, None, float("-inf")],
            False,
            (
                "t: column 'c', row 3: the value is infinite; replace it with a number, or leave "
                "the cell empty if it is unknown"
            ),
        ),
        (
            ["1", "inf"],
            False,
            (
                "t: column 'c', row 2: the value is infinite; replace it with a number, or leave "
                "the cell empty if it is unknown"
            ),
        ),
    ],
)
def test_numbers_point_at_the_cell(cells: list[object], time: bool, message: str) -> None:
    with pytest.raises(LoadError) as caught:
        numbers(chunked(cells), "c", "t", time=time)
    assert caught.value.line() == message


def test_a_category_has_one_name_however_it_is_stored() -> None:
    stored = [chunked([1, 2, None]), chunked([1.0, 2.0, NAN]), chunked(["1", "2", " "])]
    assert [names_of(column).to_pylist() for column in stored] == [["1", "2", None]] * 3
    assert names_of(chunked([True, False])).to_pylist() == ["true", "false"]
    assert names_of(chunked([1.0, 2.5])).to_pylist() == ["1", "2.5"]
    assert names_of(chunked([1.0])).to_pylist() == ["1"]
    assert names_of(chunked([None])).to_pylist() == [None]


def test_codes_of() -> None:
    codes, missing = codes_of(chunked(["b", None, "z"], ["a"]), ("a", "b"))
    assert codes.tolist() == [1, -1, -1, 0]
    assert missing.tolist() == [False, True, False, False]


def test_truths() -> None:
    column = chunked(["Yes", " no", "TRUE", "f", "1", "off", "maybe", None])
    np.testing.assert_array_equal(truths(column), [1, 0, 1, 0, 1, 0, NAN, NAN])
    np.testing.assert_array_equal(truths(chunked([1.0, 0.0, NAN])), [1, 0, NAN])


def test_dense_numbers_values_as_they_appear() -> None:
    index, words = dense(chunked(["b", "a"], ["b", None]))
    assert index.tolist() == [0, 1, 0, -1]
    assert words == ["b", "a"]
    assert dense(pa.chunked_array([], type=pa.string()))[0].tolist() == []
