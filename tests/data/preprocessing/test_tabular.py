from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from assay.data.preprocessing import Feature, TabularPreprocessing, Target, load_preprocessing
from assay.errors import ArtefactError, LoadError

MADE = TabularPreprocessing(
    columns=(
        Feature(name="age", kind="numeric", mean=40, std=10, missing=True),
        Feature(name="dose", kind="numeric", mean=0.5, std=0.25, bounds=(0, 1)),
        Feature(name="smokes", kind="boolean", missing=True),
        Feature(name="ward", kind="categorical", categories=("1", "2")),
        Feature(name="day", kind="time", mean=1, std=2),
    ),
    id="key",
)
TABLE = {
    "ward": [1.0, 2.0, 3.0, None],
    "age": [50, None, 40, 1000],
    "dose": [2.0, 0.5, -1.0, 0.0],
    "smokes": ["yes", None, "NO", "perhaps"],
    "day": ["1970-01-02", "1970-01-04", "", "1970-01-02"],
    "key": ["a", "b", "c", "d"],
    "extra": [[1], [2], [3], [4]],
}


def test_features() -> None:
    assert MADE.names == (
        "age",
        "age missing",
        "dose",
        "smokes",
        "smokes missing",
        "ward=1",
        "ward=2",
        "ward other",
        "day",
    )
    assert MADE.width == 9
    assert MADE.inputs == {"features": ("float32", 2)}
    found = MADE.encode(pa.table(TABLE)).arrays["features"]
    assert found.dtype == np.float32
    assert found.tolist() == [
        # age       dose  smokes    ward        day
        [1, 0, 2, 1, 0, 1, 0, 0, 0],
        [0, 1, 0, 0, 1, 0, 1, 0, 1],
        [0, 0, -2, -1, 0, 0, 0, 1, 0],
        [10, 0, -2, 0, 1, 0, 0, 1, 0],
    ]
    assert MADE.ids(pa.table(TABLE)) == ["a", "b", "c", "d"]


def test_the_type_of_a_column_may_differ_between_files() -> None:
    other = {
        **TABLE,
        "ward": ["1", "2", "3", ""],
        "age": ["50", None, "40.0", "1e3"],
        "smokes": [1, None, 0, None],
        "dose": [None] * 4,
    }
    found = MADE.encode(pa.table(other)).arrays["features"]
    expected = MADE.encode(pa.table(TABLE)).arrays["features"].copy()
    expected[:, 2] = 0
    np.testing.assert_array_equal(found, expected)


def test_no_rows() -> None:
    assert MADE.encode(pa.table(TABLE).slice(0, 0)).arrays["features"].shape == (0, 9)


def changed(**columns: Any) -> pa.Table:
    return pa.table({**TABLE, **columns})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            pa.table(TABLE).drop_columns(["age"]),
            "data: the column 'age' is missing; add it (",
        ),
        (
            pa.table(TABLE).append_column("age", pa.array([1, 2, 3, 4])),
            "data: the column 'age' stands there twice; rename one of them",
        ),
        (
            changed(age=[1.0, 2.0, float("inf"), 3.0]),
            "data: column 'age', row 3: the value is infinite; ",
        ),
        (
            changed(age=["1", "old", "3", "4"]),
            "data: column 'age', row 2: 'old' is not a number; ",
        ),
        (
            changed(day=["1970-01-02", "then", None, None]),
            "data: column 'day', row 2: 'then' is not a date; ",
        ),
    ],
)
def test_rows_that_cannot_be_encoded(table: pa.Table, message: str) -> None:
    with pytest.raises(LoadError) as caught:
        MADE.encode(table)
    assert caught.value.line().startswith(message)


def test_saved_and_loaded(tmp_path: Path) -> None:
    made = MADE.model_copy(update={"target": Target(mean=1.25, std=0.1)})
    assert made.save(tmp_path) == ["preprocessing.json"]
    assert load_preprocessing(tmp_path) == made
    again = load_preprocessing(tmp_path).encode(pa.table(TABLE)).arrays["features"]
    np.testing.assert_array_equal(again, MADE.encode(pa.table(TABLE)).arrays["features"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "audio"}, "is no preprocessing: kind 'audio'"),
        ({"colums": []}, "colums: unknown key 'colums'"),
        ({"clip": 0}, "clip: "),
        ({"columns": [{"name": "a", "kind": "numeric"}] * 2}, "a column stands there twice"),
    ],
)
def test_damaged_files(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    MADE.save(tmp_path)
    path = tmp_path / "preprocessing.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ArtefactError) as caught:
        load_preprocessing(tmp_path)
    assert caught.value.exit_code == 7
    assert message in caught.value.line()


def test_synthetic_rows_have_the_shape_of_real_ones() -> None:
    made = MADE.synthetic(3)
    assert made["features"].shape == (3, 9)
    assert made["features"].dtype == np.float32
