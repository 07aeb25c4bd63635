"""Predictions as a value, a table and a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from assay.data.preprocessing import Target
from assay.errors import LoadError, UsageError
from assay.models.predictions import Predictions, as_table, length_batches, unscale

SAID = Predictions(
    ids=["p1", "p2"], classes=("no", "yes"), probabilities=np.array([[0.25, 0.75], [0.5, 0.5]])
)


def test_labels() -> None:
    assert SAID.labels == ["yes", "no"]  # of equals the first
    decided = Predictions(
        ids=[1, 2], classes=SAID.classes, probabilities=SAID.probabilities, decided=np.array([0, 1])
    )
    assert decided.labels == ["no", "yes"]
    assert len(SAID) == 2
    with pytest.raises(ValueError, match="no class"):
        _ = Predictions(ids=[1], values=np.ones(1)).indices


@pytest.mark.parametrize(
    "wrong",
    [
        {"ids": [1]},
        {"ids": [1], "classes": ("a", "b"), "probabilities": np.ones((1, 3))},
        {"ids": [1, 2], "values": np.ones(3)},
        {"ids": [1], "values": np.ones(1), "probabilities": np.ones((1, 1)), "classes": ("a",)},
    ],
)
def test_shapes_must_fit(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Predictions(**wrong)  # type: ignore[arg-type]


def test_every_format_holds_the_same(tmp_path: Path) -> None:
    for suffix in (".csv", ".parquet", ".jsonl"):
        SAID.write(tmp_path / f"out{suffix}")
    rows = SAID.to_table().to_pylist()
    assert rows[0] == {
        "id": "p1", "prediction": "yes", "probability_no": 0.25, "probability_yes": 0.75,
    }  # fmt: skip
    assert csv.read_csv(tmp_path / "out.csv").to_pylist() == rows
    assert parquet.read_table(tmp_path / "out.parquet").to_pylist() == rows
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.csv", "out.jsonl", "out.parquet"]


def test_regression_has_no_probabilities() -> None:
    table = Predictions(ids=[7, 8], values=np.array([1.5, 2.5])).to_table()
    assert table.to_pydict() == {"id": [7, 8], "prediction": [1.5, 2.5]}


def test_ids_of_two_types_become_text() -> None:
    table = Predictions(ids=["a", 1], values=np.zeros(2)).to_table()
    assert table["id"].to_pylist() == ["a", "1"]


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.xlsx") as caught:
        SAID.write(tmp_path / "out.xlsx")
    assert ".csv, .parquet, .jsonl" in caught.value.line()
    with pytest.raises(LoadError, match="cannot write"):
        SAID.write(tmp_path / "missing" / "out.csv")
    assert list(tmp_path.iterdir()) == []


def test_rows_come_in_three_forms(tmp_path: Path) -> None:
    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    table = pa.Table.from_pylist(rows)
    csv.write_csv(table, tmp_path / "rows.csv")
    assert as_table(table) is table
    assert as_table(rows).to_pylist() == rows
    assert (
        as_table(tmp_path / "rows.csv").to_pylist()
        == as_table(str(tmp_path / "rows.csv")).to_pylist()
    )
    with pytest.raises(LoadError, match="int"):
        as_table(5)


def test_pictures_become_rows(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x.png").write_bytes(b"one")
    (tmp_path / "a" / "b" / "y.JPG").write_bytes(b"two")
    (tmp_path / "a" / "notes.txt").write_bytes(b"no")
    assert as_table(tmp_path / "a").to_pylist() == [
        {"file": "b/y.JPG", "image": b"two"},
        {"file": "x.png", "image": b"one"},
    ]
    assert as_table(tmp_path / "a" / "x.png").to_pylist() == [{"file": "x.png", "image": b"one"}]
    (tmp_path / "none").mkdir()
    with pytest.raises(LoadError, match="holds no pictures"):
        as_table(tmp_path / "none")


def test_batches_are_of_like_length_longest_first() -> None:
    batches = [list(b) for b in length_batches(np.array([3, 9, 3, 5]), 2)]
    assert batches == [[1, 3], [0, 2]]


def test_unscale() -> None:
    outputs = np.array([[-1.0], [0.5]], dtype=np.float32)
    assert unscale(outputs, None) is outputs
    np.testing.assert_allclose(unscale(outputs, Target(mean=10, std=4)), [[6.0], [12.0]])
