from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.data.preprocessing import Encoded, Target


def ragged(rows: list[list[int]], padding: int = 0) -> Encoded:
    flat = np.array([v for row in rows for v in row], dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    weights = flat.astype(np.float32) / 2
    return Encoded({"input_ids": flat, "weights": weights}, offsets, {"input_ids": padding})


ROWS = st.lists(st.lists(st.integers(1, 99), max_size=9), min_size=1, max_size=12)


@given(ROWS, st.data(), st.integers(1, 8), st.integers(-5, 5))
def test_a_ragged_batch_holds_its_rows(
    rows: list[list[int]], data: st.DataObject, pad_to: int, padding: int
) -> None:
    encoded = ragged(rows, padding)
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    batch = encoded.batch(np.array(chosen, dtype=np.int64), pad_to)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    longest = max([len(rows[i]) for i in chosen] + [1])
    assert ids.shape == mask.shape == (len(chosen), -(-longest // pad_to) * pad_to)
    assert ids.dtype == mask.dtype == np.int64
    assert batch["weights"].dtype == np.float32
    for place, i in enumerate(chosen):
        n = len(rows[i])
        assert ids[place, :n].tolist() == rows[i]
        assert (ids[place, n:] == padding).all()
        assert batch["weights"][place, :n].tolist() == [v / 2 for v in rows[i]]
        assert mask[place].tolist() == [1] * n + [0] * (mask.shape[1] - n)


@given(ROWS, st.data())
def test_take_is_batch_for_batch_the_same(rows: list[list[int]], data: st.DataObject) -> None:
    encoded = ragged(rows)
    chosen = np.array(
        data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=8)), dtype=np.int64
    )
    taken = encoded.take(chosen)
    assert len(taken) == len(chosen)
    assert taken.lengths().tolist() == encoded.lengths()[chosen].tolist()
    direct, again = encoded.batch(chosen), taken.batch(np.arange(len(chosen)))
    for name in direct:
        np.testing.assert_array_equal(direct[name], again[name])


@given(hnp.arrays(np.float32, (7, 3), elements=st.floats(-9, 9, width=32)))
def test_a_dense_batch_is_its_rows(values: np.ndarray) -> None:
    encoded = Encoded({"features": values})
    assert len(encoded) == 7
    assert encoded.lengths().tolist() == [1] * 7
    rows = np.array([5, 0, 0])
    np.testing.assert_array_equal(encoded.batch(rows, 8)["features"], values[rows])
    np.testing.assert_array_equal(encoded.take(rows).arrays["features"], values[rows])


def test_ragged_rows_may_have_further_axes() -> None:
    flat = np.arange(12, dtype=np.float32).reshape(6, 2)
    encoded = Encoded({"x": flat}, np.array([0, 2, 6]))
    batch = encoded.batch(np.array([0, 1]))
    assert batch["x"].shape == (2, 4, 2)
    assert batch["x"][0].tolist() == [[0, 1], [2, 3], [0, 0], [0, 0]]


def test_target_is_taken_there_and_back() -> None:
    target = Target(mean=10, std=4)
    scaled = target.standardise(np.array([2.0, 10.0, 14.0]))
    assert scaled.dtype == np.float32
    assert scaled.tolist() == [-2, 0, 1]
    assert target.restore(scaled).tolist() == [2, 10, 14]
    with pytest.raises(ValueError):
        Target(mean=0, std=0)
