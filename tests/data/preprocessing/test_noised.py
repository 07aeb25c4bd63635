"""Fitting a table through a door whose sums are noised: bounded, charged, and never absurd."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from assay.data.dataset import Dataset
from assay.data.door import LocalDoor
from assay.data.preprocessing import Feature, fit_tabular, fit_target, noised
from assay.errors import UsageError
from assay.privacy.door import PrivateDoor
from assay.privacy.randomness import Stream

Load = Callable[..., Dataset]
WHOLE = {"splits": {"valid": 0, "test": 0}}


class Honest(LocalDoor):
    """Claims noise and adds none, and checks that the bound holds for every unit."""

    noise_multiplier = 1e-6

    def bounded_sum(self, name: str, values: Any, bound: float) -> Any:
        assert math.isfinite(bound)
        assert np.linalg.norm(values, axis=1).max(initial=0.0) <= bound * (1 + 1e-12)
        return super().bounded_sum(name, values, bound)


def private(noise: float, seed: int = 1) -> PrivateDoor:
    stream = Stream.open(None, insecure_seed=seed)
    return PrivateDoor(stream, noise_multiplier=noise, data="d", unit="row")


def people(n: int = 3000) -> dict[str, list[Any]]:
    """Ages about 40, incomes about 30,000 with gaps, debts below 0, a flag, a colour, a label."""
    rng = np.random.default_rng(3)
    income = [round(v) if v > 0 else None for v in rng.normal(30_000, 9_000, n)]
    income[::50] = [None] * len(income[::50])
    return {
        "age": rng.normal(40, 12, n).round(2).tolist(),
        "income": income,
        "debt": (-rng.exponential(900, n)).round(2).tolist(),
        "flag": [("yes", "no")[i % 3 == 0] for i in range(n)],
        "colour": [("red", "green", "blue")[i % 3] for i in range(n)],
        "y": ["yes" if i % 5 < 2 else "no" for i in range(n)],
    }


COLOURS = {"colour": {"categories": ["blue", "green", "red"]}}
GAPS = {"income": {"missing": True}}


def test_means_and_spreads_are_near_the_true_ones(load: Load) -> None:
    """To the accuracy that the noise leaves in 3,000 rows."""
    data = load(people(), **WHOLE, columns={**COLOURS, **GAPS})
    door = private(1.0)
    made = {f.name: f for f in fit_tabular(data, "train", door).columns}
    exact = {f.name: f for f in fit_tabular(data, "train", LocalDoor()).columns}
    for name, mean, std in (("age", 0.05, 0.15), ("income", 0.05, 0.15), ("debt", 0.1, 0.2)):
        assert made[name].mean == pytest.approx(exact[name].mean, rel=mean), name
        assert made[name].std == pytest.approx(exact[name].std, rel=std), name
    assert made["colour"] == exact["colour"]
    # whether values are missing is not asked: there is always a place for it
    assert all(made[name].missing for name in ("age", "income", "debt", "flag"))
    assert door.asked == ["preprocessing.range"] * 3 + ["preprocessing.moments"]
    assert len(door.events) == len(door.asked)
    columns = [data.schema.columns[name] for name in data.schema.features()]
    assert noised.questions(columns, regression=False) == 4


def test_what_is_declared_is_as_without_noise_and_free(load: Load) -> None:
    declared = {
        "age": {"bounds": [0, 110], "missing": False},
        "income": {"bounds": [0, 200_000]},
        "debt": {"bounds": [-10_000, 0], "missing": False},
        "flag": {"kind": "boolean", "missing": False},
        **COLOURS,
    }
    data = load(people(200), **WHOLE, columns=declared)
    door = private(1.0)
    assert fit_tabular(data, "train", door) == fit_tabular(data, "train", LocalDoor())
    assert door.asked == []
    columns = [data.schema.columns[name] for name in data.schema.features()]
    assert noised.questions(columns, regression=False) == 0


def test_categories_are_never_read_from_private_rows(load: Load) -> None:
    """Refused before anything is spent: a category that one person has would name them."""
    data = load(people(200), **WHOLE, columns=GAPS)
    door = private(1.0)
    with pytest.raises(UsageError) as caught:
        fit_tabular(data, "train", door)
    assert caught.value.line() == (
        "data table: which categories the column 'colour' has would be read from private rows, and "
        "a rare one names a person; declare them: 'columns: {colour: {categories: [...]}}', or "
        "leave it out with 'drop: [colour]'"
    )
    assert door.events == []


def test_targets_of_a_regression(load: Load) -> None:
    columns = people()
    columns["y"] = (np.array(columns["age"]) * 7 - 100).tolist()
    data = load(columns, **WHOLE, columns={**COLOURS, **GAPS})
    assert data.classes is None
    door = private(1.0)
    target, exact = fit_target(data, "train", door), fit_target(data, "train", LocalDoor())
    assert target.mean == pytest.approx(exact.mean, rel=0.1)
    assert target.std == pytest.approx(exact.std, rel=0.25)
    assert door.asked == ["preprocessing.target.range", "preprocessing.target.moments"]
    whole = private(1.0)
    fit_tabular(data, "train", whole)
    columns_used = [data.schema.columns[name] for name in data.schema.features()]
    assert len(whole.asked) == noised.questions(columns_used, regression=True) == 6


def test_units_of_many_rows_keep_to_the_bound(load: Load) -> None:
    columns = people(400)
    columns["person"] = [f"p{i % 37 if i % 2 else 0}" for i in range(400)]
    data = load(columns, **WHOLE, unit="person", columns={**COLOURS, **GAPS})
    door = Honest()
    made = {f.name: f for f in fit_tabular(data, "train", door).columns}
    exact = {f.name: f for f in fit_tabular(data, "train", LocalDoor()).columns}
    assert made["age"].mean == pytest.approx(exact["age"].mean, rel=1e-6)
    assert made["age"].std == pytest.approx(exact["age"].std, rel=0.02)


def test_one_more_person_changes_only_what_the_noise_covers(load: Load) -> None:
    """Neighbours ask the same questions of the same shapes, whatever the new values are."""
    columns = people(300)
    asked = []
    for extra in ({}, {"age": 1e12, "income": None, "debt": -1e37}):
        more = {k: [*v, extra.get(k, v[0])] if extra else v for k, v in columns.items()}
        if extra:
            more["y"][-1] = "yes"
        calls: list[tuple[str, tuple[int, ...], float]] = []

        class Recorder(Honest):
            def bounded_sum(
                self,
                name: str,
                values: Any,
                bound: float,
                calls: list[tuple[str, tuple[int, ...], float]] = calls,
            ) -> Any:
                calls.append((name, values.shape[1:], bound))
                return super().bounded_sum(name, values, bound)

        fit_tabular(load(more, **WHOLE, columns={**COLOURS, **GAPS}), "train", Recorder())
        asked.append(calls)
    assert asked[0] == asked[1]


def test_too_few_rows_to_be_seen_through_the_noise(load: Load) -> None:
    columns = people(60)
    data = load(columns, **WHOLE, columns={**COLOURS, **GAPS})
    with pytest.raises(UsageError, match="too few units have a value of 'age'") as caught:
        fit_tabular(data, "train", private(200.0))
    assert "columns: {age: {bounds: [LOW, HIGH]}}" in caught.value.line()
    columns["y"] = columns["age"]
    data = load(columns, **WHOLE, columns={**COLOURS, **GAPS})
    with pytest.raises(UsageError, match="value of the target for") as caught:
        fit_target(data, "train", private(200.0))
    assert caught.value.mend == "spend more privacy, or use more data"


def test_spreads_stay_positive_whatever_the_noise(load: Load) -> None:
    """A constant column, a column with one outlier, and noise of every size: features stay
    finite, and most of a column that varies stays within a few spreads."""
    columns = people(400)
    columns["age"] = [7.0] * 400
    data = load(columns, **WHOLE, columns={**COLOURS, **GAPS})
    fitted = 0
    for seed in range(40):
        try:
            made = fit_tabular(data, "train", private((1.0, 8.0, 40.0)[seed % 3], seed))
        except UsageError as error:
            assert "too few units" in error.what
            continue
        fitted += 1
        assert all(f.std > 0 and math.isfinite(f.mean) for f in made.columns)
        features = made.encode(data.rows("train")).arrays["features"]
        assert np.isfinite(features).all()
        assert np.abs(features).max() <= 10
    assert fitted >= 25


@given(
    arrays(
        np.float64,
        st.integers(1, 30),
        elements=st.one_of(
            st.floats(allow_nan=True, allow_infinity=False, width=64),
            st.sampled_from([0.0, 1.0, -1.0, 4.0, 1e-30, -1e300]),
        ),
    )
)
def test_without_noise_a_range_holds_all_that_it_can(values: np.ndarray) -> None:
    """Of at most 4^20 in size; and its ends lie within a factor of four of a value's."""
    door = Honest()
    if np.isnan(values).all():
        with pytest.raises(UsageError, match="too few"):
            noised.value_range(door.bounded_sum, "r", "x", values, 1e-6, "data")
        return
    low, high = noised.value_range(door.bounded_sum, "r", "x", values, 1e-6, "data")
    known = np.clip(values[~np.isnan(values)], -(4.0**20), 4.0**20)
    assert low <= known.min() <= known.max() <= high
    tiny = 4.0**-12
    # what is missing adds no bin around 0
    top, bottom = known.max(), known.min()
    assert high <= (4 * top if top > 0 else top / 4) + 2 * tiny
    assert low >= (4 * bottom if bottom < 0 else bottom / 4) - 2 * tiny


def test_what_is_missing_is_not_nought() -> None:
    """Missing values widen no range, and do not stand for a column without any."""
    ask = Honest().bounded_sum
    values = np.array([5.0, np.nan, 70.0])
    assert noised.value_range(ask, "r", "x", values, 1e-6, "data") == (4.0, 256.0)
    with pytest.raises(UsageError, match="too few"):
        noised.value_range(ask, "r", "x", values[[1, 1]], 1e-6, "data")


def test_a_count_that_the_noise_drowns_gives_the_uniform_spread() -> None:
    values = np.array([[1.0], [2.0], [np.nan]])
    mean, std = noised.moments(LocalDoor().bounded_sum, "m", values, [(0.0, 10.0)], 5.0)
    assert mean.tolist() == [5.0]
    assert std == pytest.approx(10 / math.sqrt(12))
    mean, std = noised.moments(LocalDoor().bounded_sum, "m", values, [(0.0, 10.0)], 1e-9)
    assert mean == pytest.approx(1.5)
    assert std == pytest.approx(0.5, rel=1e-4)


def test_a_noised_fit_is_a_preprocessing_like_any_other(load: Load) -> None:
    data = load(people(), **WHOLE, columns={**COLOURS, **GAPS})
    made = fit_tabular(data, "train", private(1.0))
    assert made.columns[4] == Feature(
        name="colour", kind="categorical", categories=("blue", "green", "red")
    )
    features = made.encode(data.rows("train")).arrays["features"]
    assert np.abs(features[:, 0].mean()) < 0.2
    assert features[:, 0].std() == pytest.approx(1, abs=0.2)
