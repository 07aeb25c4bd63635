from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from assay.data.dataset import Dataset
from assay.errors import LoadError

Load = Callable[..., Dataset]
Columns = dict[str, list[Any]]


def test_rows_ids_targets_and_columns_agree(load: Load, columns: Columns) -> None:
    data = load(columns)
    for split in ("train", "valid", "test"):
        ids = data.ids(split)
        assert ids == data.positions(split).tolist()
        rows = data.rows(split).to_pylist()
        assert [row["a"] for row in rows] == [columns["a"][int(i)] for i in ids]
        assert data.column(split, "a").to_pylist() == [row["a"] for row in rows]
        assert [data.classes[t] for t in data.targets(split)] == [row["y"] for row in rows]  # type: ignore[index]
        assert data.targets(split).dtype == np.int64
        assert data.units(split).tolist() == list(range(len(ids)))
        assert data.size(split) == len(ids)
    assert data.card.rows == 40
    assert data.classes == ("no", "yes")
    assert data.positive == "yes"


def test_ids_come_from_their_column(load: Load, columns: Columns) -> None:
    data = load({"key": [f"k{i}" for i in range(40)], **columns}, id="key")
    assert data.ids("test") == [f"k{i}" for i in data.positions("test")]
    assert "key" not in data.schema.features()


def test_opened_names_only_what_was_read(load: Load, columns: Columns) -> None:
    data = load(columns)
    data.size("train"), data.positions("train"), data.digest
    assert data.opened == set()
    data.targets("valid")
    assert data.opened == {"valid"}
    data.rows("test")
    assert data.opened == {"valid", "test"}


def test_what_is_read_through_a_resampling_counts_as_read(load: Load, columns: Columns) -> None:
    data = load(columns)
    again = data.with_splits({"train": data.positions("valid"), "test": data.positions("train")})
    deep = again.with_splits({"all": again.positions("train")})
    deep.rows("all")
    assert (deep.opened, again.opened, data.opened) == ({"all"}, {"train"}, {"valid"})


def test_with_splits_shares_the_table_and_gets_its_own_digest(load: Load, columns: Columns) -> None:
    data = load(columns)
    other = data.with_splits({"train": np.arange(5), "test": np.arange(5, 9)}, name="part")
    assert other.table is data.table
    assert other.digest != data.digest
    assert other.card.name == other.name == "part"
    assert (other.card.rows, other.card.splits) == (9, ("train", "test"))
    assert data.with_splits(data.splits).digest == data.digest
    with pytest.raises(LoadError, match="'train' and 'test' share 'row 5'"):
        data.with_splits({"train": np.arange(5), "test": np.arange(4, 9)})


def test_relabelled_rows_have_other_targets_and_all_else_is_the_same(
    load: Load, columns: Columns
) -> None:
    data = load(columns)
    rows = data.positions("train")[:3]
    flipped = 1 - data.labels[rows]
    other = data.relabelled(rows, flipped)
    assert other.targets("train")[:3].tolist() == flipped.tolist()
    assert other.targets("train")[3:].tolist() == data.labels[data.positions("train")[3:]].tolist()
    assert other.targets("train").dtype == data.labels.dtype
    assert other.table is data.table and other.splits == data.splits
    assert data.labels[rows].tolist() == (1 - flipped).tolist()
    assert data.opened == {"train"}  # what was read through the other one was read
    assert other.digest != data.digest
    assert other.digest != data.relabelled(rows[:2], flipped[:2]).digest
    assert other.digest == data.relabelled(rows, flipped).digest
    with pytest.raises(ValueError, match="read-only"):
        other.labels[0] = 1


def test_relabelled_refuses_what_is_no_label(load: Load, columns: Columns) -> None:
    data = load(columns)
    for rows, labels in (([0], [2]), ([0], [-1]), ([0, 1], [1]), ([0, 0], [1, 1])):
        with pytest.raises(ValueError, match="expected"):
            data.relabelled(np.array(rows), np.array(labels))


def test_a_dataset_cannot_be_changed(load: Load, columns: Columns) -> None:
    data = load(columns)
    with pytest.raises(ValueError, match="read-only"):
        data.positions("train")[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        data.labels[0] = 1
    with pytest.raises(TypeError):
        data.splits["train"] = np.arange(3)  # type: ignore[index]
    with pytest.raises(AttributeError):
        data.content = ""  # type: ignore[misc]


def test_unknown_splits_and_columns(load: Load, columns: Columns) -> None:
    data = load(columns)
    with pytest.raises(LoadError) as caught:
        data.rows("tests")
    assert caught.value.line() == "data table: there is no split 'tests'; did you mean 'test'?"
    with pytest.raises(LoadError, match="no column 'colours'; did you mean 'colour'"):
        data.column("train", "colours")


def test_units_are_dense_and_whole(load: Load, columns: Columns) -> None:
    person = [f"p{i // 2}" for i in range(40)]
    data = load({**columns, "person": person}, unit="person")
    seen: set[str] = set()
    for split in data.splits:
        words = data.column(split, "person").to_pylist()
        units = data.units(split)
        firsts = list(dict.fromkeys(words))
        assert units.tolist() == [firsts.index(word) for word in words]
        assert not seen & set(words)
        seen |= set(words)
    assert data.card.unit == "person"
    assert "person" not in data.schema.features()


def test_folds_cover_every_row_once_a_repeat(load: Load, columns: Columns) -> None:
    data = load(columns)
    made = list(data.folds(4, repeats=2, seed=1, valid=0.25))
    assert [(r, f) for r, f, _ in made] == [(r, f) for r in range(2) for f in range(4)]
    for repeat in range(2):
        tests = [d.positions("test") for r, _, d in made if r == repeat]
        assert sorted(np.concatenate(tests).tolist()) == list(range(40))
        assert [len(rows) for rows in tests] == [10] * 4
        assert [int(data.labels[rows].sum()) for rows in tests] == [4] * 4
    for _, _, fold in made:
        sizes = {name: fold.size(name) for name in fold.splits}
        assert sizes["train"] + sizes["valid"] == 30
        assert 7 <= sizes["valid"] <= 8
    assert not np.array_equal(made[0][2].positions("test"), made[4][2].positions("test"))
    again = list(data.folds(4, repeats=2, seed=1, valid=0.25))
    assert [a.digest for _, _, a in again] == [b.digest for _, _, b in made]


def test_folds_of_a_pool_leave_the_rest_alone(load: Load, columns: Columns) -> None:
    data = load(columns)
    for _, _, fold in data.folds(3, pool=("train", "valid")):
        rows = np.concatenate([fold.positions("train"), fold.positions("test")])
        assert not set(rows.tolist()) & set(data.positions("test").tolist())


def test_folds_hold_units_whole(load: Load, columns: Columns) -> None:
    data = load({**columns, "person": [f"p{i % 10}" for i in range(40)]}, unit="person")
    for _, _, fold in data.folds(5, valid=0.2):
        people = [set(fold.column(name, "person").to_pylist()) for name in fold.splits]
        assert sum(len(p) for p in people) == len(set().union(*people)) == 10
    with pytest.raises(LoadError, match="10 row"):
        list(data.folds(11))


def test_few(load: Load, columns: Columns) -> None:
    data = load(columns)
    small = data.few(3, seed=2)
    assert np.bincount(small.targets("train")).tolist() == [3, 3]
    assert small.positions("test").tolist() == data.positions("test").tolist()
    with pytest.raises(LoadError) as caught:
        data.few(20)
    assert caught.value.line() == (
        "data table: class 'no' has 17 training rows, fewer than 20; ask for fewer"
    )


def test_sample(load: Load, columns: Columns) -> None:
    data = load(columns)
    assert data.sample("test", 3).size("test") == 3
    assert data.sample("test", 99).positions("test").tolist() == data.positions("test").tolist()
    some = data.sample("test", 3)
    assert set(some.positions("test").tolist()) <= set(data.positions("test").tolist())
