from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from assay.data.dataset import Dataset
from assay.data.door import LocalDoor
from assay.data.preprocessing import Feature, fit_tabular
from assay.data.preprocessing.fit import MAX_CATEGORIES
from assay.errors import LoadError

Load = Callable[..., Dataset]
Columns = dict[str, list[Any]]
WHOLE = {"splits": {"valid": 0, "test": 0}}


class Recorder(LocalDoor):
    """Keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[int, ...], float, float]] = []

    def bounded_sum(self, name: str, values: Any, bound: float) -> Any:
        norms = np.linalg.norm(values.reshape(len(values), -1), axis=1)
        self.calls.append((name, values.shape, bound, float(norms.max(initial=0.0))))
        return super().bounded_sum(name, values, bound)


def test_statistics_are_those_of_the_training_rows(load: Load, columns: Columns) -> None:
    data = load(columns)
    made = {f.name: f for f in fit_tabular(data, "train", LocalDoor()).columns}
    rows = data.rows("train").to_pydict()
    b = np.array([v for v in rows["b"] if v is not None], dtype=float)
    assert list(made) == ["a", "b", "colour", "flag"]
    assert made["a"].mean == pytest.approx(np.mean(rows["a"]), rel=1e-14)
    assert made["a"].std == pytest.approx(np.std(rows["a"]), rel=1e-14)
    assert made["b"].mean == pytest.approx(b.mean(), rel=1e-14)
    assert made["b"].std == pytest.approx(b.std(), rel=1e-14)
    assert (made["a"].missing, made["b"].missing) == (False, True)
    assert made["colour"].categories == ("blue", "green", "red")
    assert made["flag"] == Feature(name="flag", kind="boolean")
    features = fit_tabular(data, "train", LocalDoor()).encode(data.rows("train")).arrays["features"]
    np.testing.assert_allclose(features[:, 0].mean(), 0, atol=1e-6)
    np.testing.assert_allclose(features[:, 0].std(), 1, atol=1e-6)


def test_only_the_training_rows_are_read(load: Load, columns: Columns) -> None:
    data = load(columns)
    first = fit_tabular(data, "train", LocalDoor())
    assert data.opened == {"train"}
    changed = {**columns, "a": list(columns["a"])}
    for i in (*data.positions("valid"), *data.positions("test")):
        changed["a"][int(i)] = 1e6
    assert fit_tabular(load(changed), "train", LocalDoor()) == first


def test_every_statistic_goes_through_the_door(load: Load, columns: Columns) -> None:
    door = Recorder()
    fit_tabular(load(columns, **WHOLE), "train", door)
    assert [(name, shape, bound) for name, shape, bound, _ in door.calls] == [
        ("preprocessing.missing", (40, 3), math.sqrt(3)),
        ("preprocessing.mean", (40, 4), math.inf),
        ("preprocessing.variance", (40, 2), math.inf),
        ("preprocessing.categories", (40, 3), 1.0),
    ]
    # the bounds are true ones: nothing is clipped by an honest door
    assert all(norm <= bound for _, _, bound, norm in door.calls)


def test_what_is_declared_asks_nothing(load: Load, columns: Columns) -> None:
    data = load(
        columns,
        **WHOLE,
        columns={
            "a": {"bounds": [0, 12], "missing": False},
            "b": {"bounds": [-6, 6]},
            "colour": {"categories": ["green", "red"]},
            "flag": {"kind": "boolean", "missing": False},
        },
    )
    assert data.schema.undeclared() == ()
    door = Recorder()
    made = fit_tabular(data, "train", door)
    assert door.calls == []
    std = 12 / math.sqrt(12)
    assert made.columns == (
        Feature(name="a", kind="numeric", mean=6, std=std, bounds=(0, 12)),
        Feature(name="b", kind="numeric", mean=0, std=std, bounds=(-6, 6), missing=True),
        Feature(name="colour", kind="categorical", categories=("green", "red")),
        Feature(name="flag", kind="boolean"),
    )


def test_a_unit_counts_once_however_many_rows_it_has(load: Load) -> None:
    # person p0 has 30 rows, the ten others one each
    person = ["p0"] * 30 + [f"p{i}" for i in range(1, 11)]
    columns = {
        "x": [100.0] * 30 + [0.0] * 10,
        "c": ["u"] * 30 + ["v"] * 10,
        "y": ["a", "b"] * 20,
        "person": person,
    }
    door = Recorder()
    made = fit_tabular(load(columns, unit="person", **WHOLE), "train", door)
    assert made.columns[0].mean == pytest.approx(100 / 11)
    assert {shape[0] for _, shape, _, _ in door.calls} == {11}


def test_a_constant_column_is_nought(load: Load, columns: Columns) -> None:
    columns["a"] = [1e9 + 0.1] * 40
    data = load(columns, **WHOLE)
    made = fit_tabular(data, "train", LocalDoor())
    assert made.columns[0].std == 1
    assert np.abs(made.encode(data.rows("train")).arrays["features"][:, 0]).max() < 1e-6


def test_a_small_spread_about_a_great_mean_is_kept(load: Load, columns: Columns) -> None:
    columns["a"] = [1e8 + i % 2 for i in range(40)]
    made = fit_tabular(load(columns, **WHOLE), "train", LocalDoor())
    assert made.columns[0].std == pytest.approx(0.5)


def test_only_the_frequent_categories_get_a_place(load: Load) -> None:
    words = [f"w{i:03}" for i in range(100) for _ in range(1 + (i >= 40) * 2)]
    n = len(words)
    data = load({"c": words, "y": ["a", "b"] * (n // 2)}, **WHOLE)
    categories = fit_tabular(data, "train", LocalDoor()).columns[0].categories
    assert len(categories) == MAX_CATEGORIES
    # the 60 frequent ones, then the first of the rare in the alphabet
    assert categories == tuple(
        [f"w{i:03}" for i in range(4)] + [f"w{i:03}" for i in range(40, 100)]
    )


def test_too_many_categories_to_count(load: Load) -> None:
    words = [f"w{i % 1001}" for i in range(2004)]
    data = load({"c": words, "y": ["a", "b"] * 1002}, **WHOLE)
    with pytest.raises(LoadError) as caught:
        fit_tabular(data, "train", LocalDoor())
    assert caught.value.line() == (
        "data table: the column 'c' has 1001 categories, over 1000; name those that matter under "
        "'columns: {c: {categories: [...]}}', or leave it out with 'drop: [c]'"
    )


def test_targets_of_a_regression_are_standardised(load: Load) -> None:
    data = load({"a": list(range(60)), "y": [i / 7 for i in range(60)]})
    door = Recorder()
    made = fit_tabular(data, "train", door)
    targets = data.targets("train").astype(np.float64)
    assert made.target is not None
    assert made.target.mean == pytest.approx(targets.mean(), rel=1e-12)
    assert made.target.std == pytest.approx(targets.std(), rel=1e-12)
    assert "preprocessing.target.mean" in door.asked
    learnt = made.learnt_targets(targets)
    assert learnt.mean() == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(made.target.restore(learnt), targets, rtol=1e-6, atol=1e-6)


def test_classes_are_not_standardised(load: Load, columns: Columns) -> None:
    made = fit_tabular(load(columns), "train", LocalDoor())
    assert made.target is None
    assert made.learnt_targets(np.array([1, 0])).tolist() == [1, 0]
