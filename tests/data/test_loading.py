"""Roles, checks, labels and splits of a data set that a recipe names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.config import build
from assay.data.config import DataConfig
from assay.data.dataset import Dataset
from assay.data.schema import Column
from assay.errors import AssayError, LoadError, UsageError

Load = Callable[..., Dataset]
Columns = dict[str, list[Any]]
SAVED = Path(__file__).parent / "saved"


def said(load: Load, kind: type[AssayError], *args: Any, **settings: Any) -> str:
    with pytest.raises(kind) as caught:
        load(*args, **settings)
    line = caught.value.line()
    assert "\n" not in line
    assert caught.value.mend
    return line


def test_what_is_inferred(load: Load, columns: Columns) -> None:
    data = load(columns)
    assert data.schema.columns == {
        "a": Column(kind="numeric"),
        "b": Column(kind="numeric"),
        "colour": Column(kind="categorical"),
        "flag": Column(kind="boolean"),
        "y": Column(kind="categorical", role="label", categories=("no", "yes")),
    }
    assert data.inferred == ("a", "b", "colour", "flag", "y")
    assert {name: len(rows) for name, rows in data.splits.items()} == {
        "train": 28,
        "valid": 4,
        "test": 8,
    }


def test_what_is_declared_is_not_inferred(load: Load, columns: Columns) -> None:
    data = load(
        columns,
        classes=["yes", "no"],
        columns={
            "a": {"bounds": [0, 10]},
            "b": {"kind": "categorical"},
            "colour": {"categories": ["red", "green"]},
            "flag": {"role": "drop"},
        },
    )
    assert data.inferred == ("y",)
    assert data.classes == ("yes", "no")
    assert data.schema.undeclared() == ("b",)
    assert "flag" not in data.table.column_names


def test_roles_keep_columns_from_the_features(load: Load, columns: Columns) -> None:
    data = load(
        {
            **columns,
            "state": [("NY", "CA")[i % 2] for i in range(40)],
            "sex": [("m", "f")[i % 2] for i in range(40)],
            "age": list(range(40)),
        },
        site="state",
        sensitive=["sex", "age"],
        drop=["b"],
        columns={"age": {"role": "feature"}},
    )
    assert data.schema.features() == ("a", "colour", "flag", "age")
    assert data.schema.sensitive() == ("sex", "age")
    assert data.card.sensitive == ("sex", "age")
    assert data.schema.columns["state"].role == "site"
    assert "b" not in data.table.column_names


def test_the_positive_class_comes_second(load: Load, columns: Columns) -> None:
    data = load(columns, positive="no")
    assert data.classes == ("yes", "no")
    assert data.positive == "no"
    assert data.targets("test").sum() == sum(
        word == "no" for word in data.column("test", "y").to_pylist()
    )
    assert load(columns, "tabular-classification").positive == "yes"


def test_classes_of_numbers_are_in_their_order(load: Load) -> None:
    data = load({"a": list(range(60)), "y": [(10, 9, 2)[i % 3] for i in range(60)]})
    assert data.classes == ("2", "9", "10")
    assert data.targets("train").max() == 2


def test_regression_is_inferred_from_many_numbers(load: Load) -> None:
    data = load({"a": list(range(60)), "y": [i / 7 for i in range(60)]})
    assert data.classes is None
    assert data.positive is None
    assert data.card.classes == 0
    assert data.targets("train").dtype == np.float32
    np.testing.assert_array_equal(
        data.targets("train"), (data.positions("train") / 7).astype(np.float32)
    )


def test_regression_of_few_numbers_where_it_is_asked_for(load: Load) -> None:
    data = load({"a": list(range(40)), "y": [i % 4 for i in range(40)]}, "tabular-regression")
    assert data.classes is None


def test_splits_out_of_time(load: Load, columns: Columns) -> None:
    days = [f"2024-{1 + i // 28:02}-{1 + i % 28:02}" for i in range(40)][::-1]
    data = load({**columns, "day": days}, splits={"by": "time", "column": "day"})
    assert data.positions("test").tolist() == list(range(8))
    assert data.positions("valid").tolist() == list(range(8, 12))
    assert data.schema.columns["day"].role == "time"
    assert "day" not in data.schema.features()


def test_splits_named_by_a_column(load: Load, columns: Columns) -> None:
    part = ["train"] * 30 + ["Validation"] * 4 + ["test"] * 6
    data = load({**columns, "part": part}, splits={"by": "given", "column": "part"})
    assert {n: r.tolist() for n, r in data.splits.items()} == {
        "train": list(range(30)),
        "valid": list(range(30, 34)),
        "test": list(range(34, 40)),
    }
    assert "part" not in data.table.column_names


def test_grouped_by_a_feature_and_by_a_unit(load: Load, columns: Columns) -> None:
    person = [i // 2 for i in range(40)]
    ward = [i // 4 for i in range(40)]
    data = load(
        {**columns, "person": person, "ward": ward},
        unit="person",
        splits={"by": "grouped", "column": "ward"},
    )
    wards = [set(data.column(name, "ward").to_pylist()) for name in data.splits]
    assert sum(len(w) for w in wards) == len(set().union(*wards)) == 10
    assert len(data.blocks) == 10
    assert data.units("train").max() + 1 == data.size("train") / 2


def test_private_data_are_divided_by_a_hash_of_the_unit(load: Load, columns: Columns) -> None:
    person = [f"p{i}" for i in range(40)]
    whole = load({**columns, "person": person}, unit="person", private=True)
    half = load(
        {name: cells[::2] for name, cells in {**columns, "person": person}.items()},
        unit="person",
        private=True,
    )
    for name in half.splits:
        mine = half.column(name, "person").to_pylist()
        assert set(mine) <= set(whole.column(name, "person").to_pylist())
    assert whole.card.private


def test_given_splits_are_kept_and_completed() -> None:
    config = build(DataConfig, {"path": "dict", "label": "label", "splits": {"valid": 0}})
    data = config.load(SAVED)
    assert {n: r.tolist() for n, r in data.splits.items()} == {
        "train": [0, 1, 2, 3],
        "valid": [4],
        "test": [5],
    }
    assert data.classes == ("good", "bad")
    assert data.card.modality == "text"
    assert data.schema.text_columns() == ("sentence",)


def test_text_columns_keep_the_order_of_the_recipe(load: Load, columns: Columns) -> None:
    notes = {f"note{j}": [f"word{i} and some{j}" for i in range(40)] for j in range(3)}
    data = load({**notes, **columns}, text=["note2", "note0"])
    assert data.schema.text_columns() == ("note2", "note0")
    assert data.card.modality == "text"
    assert "note1" not in data.table.column_names


def test_rows_without_a_label_may_be_left_out(load: Load, columns: Columns) -> None:
    columns["y"][3] = columns["y"][10] = None
    assert said(load, LoadError, columns) == (
        "table.csv: the label column 'y' has 2 missing value(s), the first in row 4; fill them "
        "in, or set 'drop_missing_label: true' to leave these rows out"
    )
    data = load(columns, drop_missing_label=True)
    assert data.card.rows == 38
    assert 0.75 not in data.table.column("a").to_pylist()


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        (
            {},
            {"label": "Y"},
            "table.csv: label names no column 'Y'; one of: a, b, colour, flag, y",
        ),
        (
            {},
            {"label": "flga"},
            "table.csv: label names no column 'flga'; did you mean 'flag'?",
        ),
        (
            {},
            {"drop": ["colur"]},
            "table.csv: drop names no column 'colur'; did you mean 'colour'?",
        ),
        (
            {},
            {"columns": {"colur": {"kind": "text"}}},
            "table.csv: no column 'colur'; did you mean 'colour'?",
        ),
        (
            {"y": ["no"] * 40},
            {},
            (
                "table.csv: the label column 'y' holds one class only: 'no'; "
                "give rows of at least two classes"
            ),
        ),
        (
            {"y": ["no"] * 39 + ["yes"]},
            {},
            (
                "table.csv: class 'yes' has 1 row, too few to be in each of train, valid, test; "
                "add rows of it, leave it out, or set 'splits: {by: random}'"
            ),
        ),
        (
            {"a": [1.5] * 16 + ["inf"] + [2.5] * 23},
            {},
            (
                "table.csv: column 'a', row 17: the value is infinite; replace it with a number, "
                "or leave the cell empty if it is unknown"
            ),
        ),
        (
            {"a": [1.5] * 16 + ["much"] + [2.5] * 23},
            {"columns": {"a": {"kind": "numeric"}}},
            (
                "table.csv: column 'a', row 17: 'much' is not a number; correct the cell, or set "
                "'columns: {a: {kind: categorical}}'"
            ),
        ),
        (
            {"flag": ["yes", "no"] * 19 + ["yes", "maybe"]},
            {"columns": {"flag": {"kind": "boolean"}}},
            (
                "table.csv: column 'flag', row 40: 'maybe' says neither yes nor no; correct the "
                "cell, or set 'columns: {flag: {kind: categorical}}'"
            ),
        ),
        (
            {},
            {"text": ["a"]},
            (
                "table.csv: the text column 'a' holds numbers; name a column of text, or use a "
                "tabular task"
            ),
        ),
        (
            {"key": [1, *range(1, 40)]},
            {"id": "key"},
            (
                "table.csv: the id '1' of column 'key' stands in rows 1 and 2; make ids unique, or "
                "leave out 'id:' and rows are named by their position"
            ),
        ),
        (
            {"person": [None, *range(39)]},
            {"unit": "person"},
            (
                "table.csv: the column 'person', on which rows are named or grouped, has 1 missing "
                "value(s), the first in row 1; fill them in, or leave these rows out"
            ),
        ),
        (
            {"person": [1, 2] * 20},
            {"unit": "person"},
            (
                "table.csv: 2 group(s) cannot be divided into train, valid, test; "
                "name a column with more groups, or set 'splits: {valid: 0}'"
            ),
        ),
        (
            {},
            {"splits": {"by": "grouped", "column": "colour"}},
            (
                "table.csv: the column 'colour', on which rows are named or grouped, has 1 missing "
                "value(s), the first in row 6; fill them in, or leave these rows out"
            ),
        ),
        (
            {"day": [7] * 40},
            {"splits": {"by": "time", "column": "day"}},
            (
                "table.csv: the split 'valid' is empty: 40 rows are too few (those of one instant "
                "stay together); give more rows, or set 'splits: {valid: 0}'"
            ),
        ),
        (
            {"part": ["test"] * 40},
            {"splits": {"by": "given", "column": "part"}},
            "table.csv: the column 'part' puts no row into 'train'; name the training rows 'train'",
        ),
        (
            {"person": [i // 2 for i in range(40)], "part": ["train", "test"] * 20},
            {"unit": "person", "splits": {"by": "given", "column": "part"}},
            (
                "table.csv: the splits 'test' and 'train' share '0'; "
                "put all rows of one unit or group into one split"
            ),
        ),
        (
            {"y": [i / 3 for i in range(40)]},
            {"task": "tabular-classification"},
            (
                "table.csv: the label column 'y' holds 40 different numbers, which are a quantity "
                "and no classes; use task: tabular-regression"
            ),
        ),
        (
            {},
            {"task": "tabular-regression"},
            (
                "table.csv: column 'y', row 1: 'yes' is not a number; correct the cell, or set "
                "'columns: {y: {kind: categorical}}'"
            ),
        ),
        (
            {"y": [3] * 40},
            {"task": "tabular-regression"},
            (
                "table.csv: the label column 'y' holds one value only: 3; "
                "give rows with different values"
            ),
        ),
        (
            {},
            {"positive": "yess"},
            (
                "table.csv: the positive class 'yess' is none of the label column 'y'; "
                "did you mean 'yes'?"
            ),
        ),
        (
            {},
            {"classes": ["no", "maybe"]},
            (
                "table.csv: the label column 'y' holds 'yes', which is not a declared class; "
                "add it to 'classes:'"
            ),
        ),
    ],
)
def test_data_that_cannot_be_used(
    load: Load, columns: Columns, changes: Columns, settings: dict[str, Any], message: str
) -> None:
    task = settings.pop("task", None)
    assert said(load, LoadError, {**columns, **changes}, task, **settings) == message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"id": "a", "site": "a"},
            "data.site: the column 'a' is both id and site; give each column one role",
        ),
        (
            {"id": "a", "columns": {"b": {"role": "id"}}},
            "data.columns: the columns 'a' and 'b' both have the role 'id'; give it to one of them",
        ),
        (
            {"task": "text-classification"},
            (
                "table.csv: the task text-classification needs a column of text, and there is "
                "none; name one with 'text: [column]', or use a tabular task"
            ),
        ),
        (
            {"task": "tabular-classification", "drop": ["a", "b", "colour", "flag"]},
            (
                "table.csv: the task tabular-classification needs feature columns, and there are "
                "none; add columns, or use a text task"
            ),
        ),
        (
            {"splits": {"by": "grouped"}},
            "data.splits: by: grouped needs a column to group by; name it with 'column:'",
        ),
        (
            {"task": {"tabular-classification": "yes"}, "positive": "no"},
            "data.positive: the task says that 'yes' is positive, the data say 'no'; say it once",
        ),
    ],
)
def test_recipes_that_contradict(
    load: Load, columns: Columns, settings: dict[str, Any], message: str
) -> None:
    task = settings.pop("task", None)
    assert said(load, UsageError, columns, task, **settings) == message


def test_a_given_empty_split_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a,y\n1,u\n2,v\n3,u\n4,v\n")
    (tmp_path / "test.csv").write_text("a,y\n")
    with pytest.raises(LoadError) as caught:
        build(DataConfig, {"path": ".", "label": "y", "splits": {"valid": 0}}).load(tmp_path)
    assert caught.value.line() == ".: the split 'test' is empty; give it rows, or leave it out"
