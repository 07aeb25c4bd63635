"""Every row once an epoch, in an order that is a function of (seed, epoch), with little padding."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.data.preprocessing import Encoded
from assay.training.batches import Batch, to_units
from assay.training.sources import RowSource


def dense(n: int, batch: int, seed: int = 0, **more: Any) -> RowSource:
    """Row i has the features (i, -i) and the target i."""
    rows = np.arange(n, dtype=np.float32)
    encoded = Encoded({"features": np.stack([rows, -rows], axis=1)})
    units = more.pop("units", np.arange(n))
    return RowSource(encoded, np.arange(n), units, batch, seed, **more)


def ragged(lengths: list[int], batch: int, seed: int = 0) -> RowSource:
    """Row i holds the token i + 1 as often as its length says."""
    tokens = np.repeat(np.arange(len(lengths)) + 1, lengths).astype(np.int32)
    encoded = Encoded({"input_ids": tokens}, np.concatenate([[0], np.cumsum(lengths)]))
    n = len(lengths)
    return RowSource(encoded, np.arange(n), np.arange(n), batch, seed)


def epoch_of(source: RowSource, epoch: int = 0) -> list[Batch]:
    state, batches = {"epoch": epoch, "position": 0}, []
    while state["epoch"] == epoch:
        batch, state = source.next(state)
        batches.append(batch)
    assert state == {"epoch": epoch + 1, "position": 0}
    return batches


def rows_of(batches: list[Batch]) -> list[list[int]]:
    return [batch.rows.tolist() for batch in batches]


@given(st.integers(1, 70), st.integers(1, 20), st.booleans(), st.integers(0, 3))
def test_every_row_once_an_epoch(n: int, batch: int, lengths: bool, epoch: int) -> None:
    source = ragged([1 + i % 7 for i in range(n)], batch) if lengths else dense(n, batch)
    batches = epoch_of(source, epoch)
    assert len(batches) == source.steps_per_epoch == -(-n // batch)
    assert sorted(row for rows in rows_of(batches) for row in rows) == list(range(n))
    assert [len(b) for b in batches[:-1]] == [batch] * (len(batches) - 1)  # the short one is last
    for found in batches:
        assert torch.equal(found.targets, found.rows)
        assert torch.equal(found.weights, torch.ones(len(found)))
        key = "input_ids" if lengths else "features"
        said = found.inputs[key][:, 0]
        assert torch.equal(said.long(), found.rows + 1 if lengths else found.rows)


@pytest.mark.parametrize("lengths", [[1] * 40, [3, 9] * 20])
def test_the_order_is_a_function_of_seed_and_epoch(lengths: list[int]) -> None:
    def make(seed: int) -> RowSource:
        return ragged(lengths, 8, seed) if len(set(lengths)) > 1 else dense(len(lengths), 8, seed)

    first = rows_of(epoch_of(make(1), 0))
    assert rows_of(epoch_of(make(1), 0)) == first
    assert rows_of(epoch_of(make(1), 1)) != first
    assert rows_of(epoch_of(make(2), 0)) != first
    source = make(1)  # what was asked before does not matter
    epoch_of(source, 3)
    assert rows_of(epoch_of(source, 0)) == first


def test_a_state_is_all_that_a_source_remembers() -> None:
    source = dense(20, 6)
    state = source.init()
    assert state == {"epoch": 0, "position": 0}
    seen = []
    for _ in range(6):
        batch, state = source.next(state)
        seen.append(batch.rows.tolist())
    again = dense(20, 6)
    batch, after = again.next({"epoch": 1, "position": 1})
    assert batch.rows.tolist() == seen[5]
    assert after == state == {"epoch": 1, "position": 2}


IN_A_NEW_PROCESS = """
import numpy as np
from assay.data.preprocessing import Encoded
from assay.training.sources import RowSource

n, tokens = 60, np.zeros(180, dtype=np.int32)
encoded = Encoded({"input_ids": tokens}, np.concatenate([[0], np.cumsum([1, 2, 3, 4, 5] * 12)]))
source = RowSource(encoded, np.arange(n), np.arange(n), 7, 12345)
print([b.tolist() for b in source._batches(4)])
"""


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_the_order_is_the_same_in_every_process(hash_seed: str) -> None:
    source = ragged([1, 2, 3, 4, 5] * 12, 7, 12345)
    done = subprocess.run(
        [sys.executable, "-c", IN_A_NEW_PROCESS],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(rows_of(epoch_of(source, 4)))


def padding(source: RowSource, epoch: int = 0) -> float:
    """Share of the positions that hold no token."""
    batches = epoch_of(source, epoch)
    total = sum(b.inputs["attention_mask"].numel() for b in batches)
    return 1 - sum(int(b.inputs["attention_mask"].sum()) for b in batches) / total


def test_rows_of_like_length_share_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = np.random.default_rng(0).integers(1, 120, 800).tolist()
    source = ragged(lengths, 16)
    with monkeypatch.context() as patch:
        patch.setattr(RowSource, "_bucketed", lambda self, order, rng: [order])
        assert padding(ragged(lengths, 16)) > 0.3
    assert padding(source) < 0.12
    # chance is not lost: other rows meet in the next epoch, and batches are not sorted by length
    first, second = ([set(b) for b in rows_of(epoch_of(source, e))] for e in (0, 1))
    assert max(len(a & b) for a in first for b in second) < 16
    longest = [b.inputs["attention_mask"].shape[1] for b in epoch_of(source)]
    assert longest != sorted(longest)


def test_batches_are_padded_on_the_right_to_a_multiple() -> None:
    source = ragged([3, 9, 2], 3)
    batch = source.take(torch.tensor([0, 1, 2]))
    assert batch.inputs["input_ids"].shape == (3, 16)
    assert batch.inputs["input_ids"][0].tolist() == [1, 1, 1] + [0] * 13
    assert batch.inputs["attention_mask"].sum(dim=1).tolist() == [3, 9, 2]


def test_a_row_is_its_own_unit_unless_told_otherwise() -> None:
    batch = dense(10, 4).take(torch.tensor([7, 2, 9]))
    assert (batch.units.tolist(), batch.n_units) == ([0, 1, 2], 3)
    patients = np.array([0, 0, 1, 1, 1, 2])
    source = dense(6, 4, units=patients)
    batch = source.take(torch.tensor([5, 2, 0, 3]))
    assert batch.n_units == 3
    assert batch.units.tolist() == [2, 1, 0, 1]  # numbered within the batch
    losses = to_units(torch.tensor([1.0, 10.0, 100.0, 1000.0]), batch.units, batch.n_units)
    assert losses.tolist() == [100.0, 1010.0, 1.0]
    batch = source.take(torch.tensor([3, 4]))
    assert (batch.units.tolist(), batch.n_units) == ([0, 0], 1)


def test_more_rows_than_a_batch_may_be_taken() -> None:
    batch = dense(30, 4).take(torch.arange(30))
    assert (len(batch), batch.n_units) == (30, 30)
    assert torch.equal(batch.weights, torch.ones(30))
    assert torch.equal(batch.units, torch.arange(30))


def test_weights_of_rows() -> None:
    weights = np.linspace(0, 1, 6, dtype=np.float32)
    batch = dense(6, 3, weights=weights).take(torch.tensor([4, 1]))
    assert batch.weights.tolist() == pytest.approx([0.8, 0.2])


def test_rows_and_units_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one unit a row"):
        to_units(torch.ones(3), torch.zeros(2, dtype=torch.long), 1)
