"""Batches are Poisson samples of privacy units: exact tests, fixed seeds, one alarm in 10^6."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tests.tiny import Bench

from assay.data.preprocessing import Encoded
from assay.privacy.attacks.sampling import failed
from assay.privacy.randomness import Stream
from assay.stages.finetune import Finetune
from assay.training.batches import Batch
from assay.training.loop import Job
from assay.training.poisson import PoissonSource
from assay.training.sources import RowSource

#: chance that a test of right code fails, over all seeds; these seeds pass
RARE = 1e-6


def source(
    units: Any,
    expected: float,
    most: int = 8,
    piece: int = 1000,
    seed: int = 0,
    lengths: list[int] | None = None,
) -> PoissonSource:
    """Row i has the feature i, or so many tokens i + 1."""
    of = np.asarray(units, dtype=np.int64)
    n = len(of)
    if lengths is None:
        encoded = Encoded({"features": np.arange(n, dtype=np.float32)[:, None]})
    else:
        tokens = np.repeat(np.arange(n) + 1, lengths).astype(np.int32)
        encoded = Encoded({"input_ids": tokens}, np.concatenate([[0], np.cumsum(lengths)]))
    rows = RowSource(encoded, np.arange(n), of, max(1, round(expected)), 0)
    return PoissonSource(rows, Stream.open(None, insecure_seed=seed), expected, most, piece)


def steps(given: PoissonSource, count: int) -> list[list[Batch]]:
    state, out = given.init(), []
    for _ in range(count):
        pieces, state = given.logical(state)
        out.append(pieces)
    return out


def rows_of(pieces: list[Batch]) -> list[int]:
    return [row for piece in pieces for row in piece.rows.tolist()]


# -- who takes part -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("units", "expected"), [(40, 4.0), (200, 2.5), (30, 20.0)])
def test_batches_pass_every_test_of_poisson_sampling(
    units: int, expected: float, seed: int
) -> None:
    given = source(np.arange(units), expected, seed=seed)
    record = np.zeros((600, units), dtype=bool)
    for step, pieces in enumerate(steps(given, 600)):
        record[step, rows_of(pieces)] = True
    assert failed(record, given.rate, RARE) == []
    shuffled = np.zeros_like(record)  # as many in each step: what a permutation gives
    for step in range(600):
        chosen = np.random.default_rng(step).permutation(units)[: round(expected)]
        shuffled[step, chosen] = True
    assert {one.name for one in failed(shuffled, round(expected) / units, RARE)} >= {"batch_sizes"}


def test_sizes_of_batches_are_binomial() -> None:
    given = source(np.arange(50), 10.0, seed=4)
    sizes = [len(rows_of(pieces)) for pieces in steps(given, 2000)]
    counts = np.bincount(sizes, minlength=51)
    exact = stats.binom.pmf(np.arange(51), 50, given.rate)
    kept = exact * 2000 >= 5  # the rest are too rare for the test, and are taken together
    seen = np.append(counts[kept], counts[~kept].sum())
    told = np.append(exact[kept], exact[~kept].sum()) * 2000
    assert stats.chisquare(seen, told).pvalue > RARE
    assert len(set(sizes)) > 10


def test_a_unit_of_many_rows_is_taken_as_often_as_one_of_few() -> None:
    units = [0] * 30 + [1] + [2] * 5
    given = source(units, 0.9, most=4, seed=2)
    assert given.n_units == 3
    assert given.rate == pytest.approx(0.3)
    record = np.stack([given.taken(step) for step in range(3000)])
    for unit in range(3):
        assert stats.binomtest(int(record[:, unit].sum()), 3000, 0.3).pvalue > RARE


def test_whether_a_unit_is_taken_does_not_depend_on_the_others() -> None:
    """Another unit more at the end changes nothing of the others but through the rate."""
    small, large = source(np.arange(20), 5.0), source(np.arange(30), 7.5)
    assert small.rate == large.rate
    for step in range(50):
        assert np.array_equal(small.taken(step), large.taken(step)[:20])


def test_a_rate_of_one_takes_everybody() -> None:
    given = source(np.arange(7), 12.0)
    assert given.rate == 1.0
    assert given.steps_per_epoch == 1
    assert all(sorted(rows_of(pieces)) == list(range(7)) for pieces in steps(given, 5))


def test_steps_of_another_key_are_others() -> None:
    first, second = source(np.arange(200), 50.0, seed=1), source(np.arange(200), 50.0, seed=2)
    assert [rows_of(p) for p in steps(first, 5)] != [rows_of(p) for p in steps(second, 5)]
    again = source(np.arange(200), 50.0, seed=1)
    assert [rows_of(p) for p in steps(first, 5)] == [rows_of(p) for p in steps(again, 5)]


# -- rows of units --------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=60),
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(1, 12),
    st.integers(0, 50),
    st.booleans(),
)
def test_pieces_are_bounded_and_a_units_rows_stay_together(
    raw: list[int], expected: int, most: int, piece: int, seed: int, texts: bool
) -> None:
    units = np.unique(raw, return_inverse=True)[1]
    lengths = [1 + (7 * i) % 5 for i in range(len(units))] if texts else None
    given = source(units, expected, most, piece, seed, lengths)
    sizes = np.bincount(units)
    for step, pieces in enumerate(steps(given, 6)):
        taken = set(np.flatnonzero(given.taken(step)).tolist())
        seen: set[int] = set()
        for batch in pieces:
            own = units[batch.rows.numpy()]
            assert len(batch) == len(own) > 0
            assert len(batch) <= piece or len(set(own)) == 1
            assert not seen & set(own), "a unit is in two pieces"
            seen |= set(own)
            # every row is there once, with its own input, and knows its unit
            assert len(set(batch.rows.tolist())) == len(batch)
            assert torch.equal(batch.targets, batch.rows)
            assert batch.n_units == len(set(own)) == int(batch.units.max()) + 1
            pairs = set(zip(own.tolist(), batch.units.tolist(), strict=True))
            assert len(pairs) == batch.n_units
            counts = np.bincount(own, minlength=len(sizes))
            assert all(counts[u] == min(sizes[u], most) for u in set(own))
            key = "input_ids" if texts else "features"
            first = batch.inputs[key][:, 0]
            assert torch.equal(first.long(), batch.rows + (1 if texts else 0))
        assert seen == taken, "who was drawn is who is handed out"


def test_rows_of_a_large_unit_are_chosen_anew_each_time_and_evenly() -> None:
    given = source([0] * 10 + [1], 2.0, most=3, seed=5)
    counts, choices = np.zeros(10, dtype=int), set()
    for pieces in steps(given, 1000):
        mine = [row for row in rows_of(pieces) if row < 10]
        assert len(mine) == 3
        counts[mine] += 1
        choices.add(tuple(sorted(mine)))
    assert len(choices) == 120  # all there are
    for count in counts:
        assert stats.binomtest(int(count), 1000, 0.3).pvalue > RARE


def test_epochs_are_counted_by_steps() -> None:
    given = source(np.arange(12), 4.0)
    assert given.steps_per_epoch == 3
    state, epochs, seen = given.init(), [], []
    for _ in range(7):
        epochs.append(state["epoch"])
        _, state = given.logical(state)
        seen.append(given.rows.epoch)  # what views of a row are chosen by
    assert epochs == seen == [0, 0, 0, 1, 1, 1, 2]


def test_a_source_that_goes_on_replays() -> None:
    whole = [rows_of(pieces) for pieces in steps(source(np.arange(40), 6.0, piece=4), 9)]
    given = source(np.arange(40), 6.0, piece=4)
    state = given.init()
    for _ in range(4):
        _, state = given.logical(state)
    later = source(np.arange(40), 6.0, piece=4)
    rest = []
    for _ in range(5):
        pieces, state = later.logical(dict(state))
        rest.append(rows_of(pieces))
    assert rest == whole[4:]


def test_one_batch_alone_is_refused() -> None:
    given = source([0, 1], 1.0)
    with pytest.raises(TypeError, match="logical"):
        given.next(given.init())


# -- in a stage -----------------------------------------------------------------------------------


def stage(batch: int = 1, **private: Any) -> Finetune:
    step = {"precision": "fp32", "sgd": 0.1, "private": {"noise_multiplier": 0.5, **private}}
    return Finetune(epochs=1, batch=batch, step=step, curves=False)


def sizes_seen(job: Job, patch: pytest.MonkeyPatch) -> list[int]:
    sizes: list[int] = []
    given: Any = job.source
    taken = given.logical

    def recording(state: Any, model: Any = None) -> Any:
        pieces, after = taken(state, model)
        sizes.append(sum(len(piece) for piece in pieces))
        return pieces, after

    patch.setattr(given, "logical", recording)
    return sizes


def test_a_stage_lives_with_empty_batches(
    table: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stage(insecure_seed=3)
    job = Job(made, table.model, table.context(tmp_path))
    sizes = sizes_seen(job, monkeypatch)
    while not job.done:
        job.step()
    after = job.finish()
    assert len(sizes) == job.total_steps == table.dataset.size("train")
    assert sizes.count(0) > 3
    assert all(torch.isfinite(p).all() for p in after.network.parameters())
    used = job.context.used["private"]
    assert used["expected"] == 1.0
    assert used["events"][0]["steps"] == job.total_steps


def test_an_empty_step_is_noise_alone(table: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(stage(insecure_seed=3, clip=2.0), table.model, table.context())
    sizes = sizes_seen(job, monkeypatch)
    flat = job.players["model"].flat
    while not sizes or sizes[-1] > 0:
        before = flat.params.clone()
        job.step()
    drawn = torch.empty(flat.size)
    Stream.open(None, insecure_seed=3).gaussian("noise.model", len(sizes) - 1, drawn)
    torch.testing.assert_close(flat.params, before - 0.1 * (0.5 * 2.0 / 1.0) * drawn)


def test_a_resumed_stage_draws_the_same(visits: Bench, tmp_path: Path) -> None:
    def rows(folder: Path, stop: bool) -> list[list[int]]:
        made = stage(batch=4, rows_per_unit=2)
        job, seen = Job(made, visits.model, visits.context(folder)), []
        for step in range(job.total_steps):
            if stop and step == 3:
                job.checkpoint()
                job.step()  # lost work
                job.close()
                job = Job(made, visits.model, visits.context(folder))
            given: Any = job.source
            seen.append(rows_of(given.logical(dict(job.state))[0]))
            job.step()
        return seen

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = rows(tmp_path / "a", stop=False)
    shutil.copy(tmp_path / "a/stream.key", tmp_path / "b/stream.key")
    assert rows(tmp_path / "b", stop=True) == whole
    assert len({tuple(r) for r in whole}) > 1
