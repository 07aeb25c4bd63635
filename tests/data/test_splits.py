from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.data.splits import (
    Blocks,
    How,
    Ints,
    check_apart,
    connect,
    divide,
    few,
    folds,
    keyed_hashes,
    permutation,
)
from assay.errors import LoadError

SHARES = {"valid": 0.1, "test": 0.2}


def ints(values: list[int]) -> Ints:
    return np.array(values, dtype=np.int64)


@st.composite
def grouped(draw: st.DrawFn) -> tuple[Blocks, Ints]:
    """Rows in 3 to 60 groups of unequal size, and a class for each row."""
    groups = draw(st.integers(3, 60))
    sizes = draw(st.lists(st.integers(1, 6), min_size=groups, max_size=groups))
    of = np.repeat(np.arange(groups), sizes)[permutation(sum(sizes), draw(st.integers(0, 99)))]
    classes = draw(st.lists(st.integers(0, 2), min_size=len(of), max_size=len(of)))
    named = draw(st.booleans())
    names = [f"u{i}" for i in range(groups)] if named else None
    return Blocks(of, names), ints(classes)


@given(st.integers(0, 300), st.integers(0, 2**62))
def test_permutation_is_one(n: int, seed: int) -> None:
    assert sorted(permutation(n, seed).tolist()) == list(range(n))


def test_permutation_never_changes() -> None:
    assert permutation(8, 1).tolist() == [2, 4, 7, 5, 0, 6, 3, 1]


def test_keyed_hashes_never_change() -> None:
    hashes = [2603170313545640471, 3207335651685455332]
    assert keyed_hashes(["a", "b"], 0).tolist() == hashes
    assert keyed_hashes(["a"], 1).tolist() != hashes[:1]


@given(grouped(), st.sampled_from(["grouped", "random", "time"]), st.integers(0, 999))
def test_parts_cover_all_rows_and_share_no_block(
    made: tuple[Blocks, Ints], how: How, seed: int
) -> None:
    blocks, classes = made
    times = np.arange(len(classes), dtype=np.float64)
    try:
        parts = divide(blocks, SHARES, how, seed=seed, where="t", classes=classes, times=times)
    except LoadError:
        # the newest unit may hold so many rows that nothing is left between it and the others
        assert how == "time"
        return
    assert list(parts) == ["train", "valid", "test"]
    rows = np.concatenate(list(parts.values()))
    assert sorted(rows.tolist()) == list(range(len(classes)))
    owned = [set(blocks.of[part].tolist()) for part in parts.values()]
    assert sum(len(o) for o in owned) == len(blocks)
    assert all(np.array_equal(part, np.sort(part)) for part in parts.values())


@given(st.lists(st.integers(0, 3), min_size=12, max_size=200), st.integers(0, 999))
def test_stratified_parts_hold_each_class_in_proportion(labels: list[int], seed: int) -> None:
    classes = ints([*labels, *range(4), *range(4), *range(4)])
    parts = divide(
        Blocks.rows(len(classes)), SHARES, "stratified", seed=seed, where="t", classes=classes
    )
    for c in range(4):
        count = int((classes == c).sum())
        for name, share in SHARES.items():
            found = int((classes[parts[name]] == c).sum())
            # at least one, else the share to the nearest row
            assert found == 1 or abs(found - share * count) <= 1


@given(st.integers(0, 99))
def test_hash_places_a_unit_by_its_name_alone(seed: int) -> None:
    names = [f"p{i}" for i in range(400)]
    whole = divide(Blocks.rows(400, names), SHARES, "hash", seed=seed, where="t")
    half = divide(Blocks.rows(200, names[::2]), SHARES, "hash", seed=seed, where="t")
    for name, rows in half.items():
        assert set((rows * 2).tolist()) <= set(whole[name].tolist())


@given(st.lists(st.integers(0, 30), min_size=30, max_size=120))
def test_time_keeps_the_newest_for_the_test(times: list[int]) -> None:
    when = np.array(times, dtype=np.float64)
    try:
        parts = divide(Blocks.rows(len(when)), SHARES, "time", seed=0, where="t", times=when)
    except LoadError:
        # so few instants, or so many rows of one, that one of them covers a whole part
        assert len(set(times)) < 15 or max(times.count(t) for t in set(times)) >= 3
        return
    assert when[parts["train"]].max() < when[parts["valid"]].min()
    assert when[parts["valid"]].max() < when[parts["test"]].min()


def test_exact_sizes() -> None:
    parts = divide(Blocks.rows(1000), SHARES, "random", seed=3, where="t")
    assert {name: len(rows) for name, rows in parts.items()} == {
        "train": 700,
        "valid": 100,
        "test": 200,
    }


def test_another_share_of_valid_leaves_the_test_as_it_was() -> None:
    a = divide(Blocks.rows(100), {"valid": 0.1, "test": 0.2}, "random", seed=0, where="t")
    b = divide(Blocks.rows(100), {"valid": 0.3, "test": 0.2}, "random", seed=0, where="t")
    assert a["test"].tolist() == b["test"].tolist()
    assert set(a["valid"].tolist()) < set(b["valid"].tolist())


def test_a_unit_counts_as_new_as_its_newest_row() -> None:
    blocks = Blocks(ints([0, 1, 2, 3, 4, 0]))
    times = np.arange(6, dtype=np.float64)
    parts = divide(blocks, {"test": 0.3}, "time", seed=0, where="t", times=times)
    assert parts["test"].tolist() == [0, 5]


def test_named_blocks_do_not_depend_on_the_order_of_the_file() -> None:
    names = [f"p{i}" for i in range(50)]
    forth = divide(Blocks.rows(50, names), SHARES, "random", seed=0, where="t")
    back = divide(Blocks.rows(50, names[::-1]), SHARES, "random", seed=0, where="t")
    assert {n: sorted(49 - r) for n, r in back.items()} == {n: r.tolist() for n, r in forth.items()}


def test_another_process_with_another_hash_seed_agrees() -> None:
    code = (
        "import numpy as np; from assay.data.splits import *\n"
        "b = Blocks.rows(30, [f'p{i}' for i in range(30)]); c = np.arange(30) % 3\n"
        "for how in ('stratified', 'grouped', 'random', 'hash'):\n"
        "    p = divide(b, {'valid': .2, 'test': .3}, how, seed=5, where='t', classes=c)\n"
        "    print({k: v.tolist() for k, v in p.items()})\n"
        "print(folds(Blocks.rows(30), 4, 1, 't', c).tolist())\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            [0] * 20 + [1],
            (
                "t: class 'b' has 1 row, too few to be in each of train, valid, test; "
                "add rows of it, leave it out, or set 'splits: {by: random}'"
            ),
        ),
        (
            [0, 0] + [1] * 20,
            (
                "t: class 'a' has 2 rows, too few to be in each of train, valid, test; "
                "add rows of it, leave it out, or set 'splits: {by: random}'"
            ),
        ),
    ],
)
def test_a_class_too_small_to_divide(classes: list[int], message: str) -> None:
    with pytest.raises(LoadError) as caught:
        divide(
            Blocks.rows(len(classes)),
            SHARES,
            "stratified",
            seed=0,
            where="t",
            classes=ints(classes),
            class_names=("a", "b"),
        )
    assert caught.value.line() == message


def test_too_few_groups() -> None:
    with pytest.raises(LoadError) as caught:
        divide(Blocks(ints([0, 0, 1, 1])), SHARES, "grouped", seed=0, where="t")
    assert caught.value.line() == (
        "t: 2 group(s) cannot be divided into train, valid, test; "
        "name a column with more groups, or set 'splits: {valid: 0}'"
    )


def test_an_empty_part() -> None:
    with pytest.raises(LoadError) as caught:
        divide(Blocks.rows(2), SHARES, "random", seed=0, where="t")
    assert caught.value.line() == (
        "t: the split 'test' is empty: 2 rows are too few; "
        "give more rows, or set 'splits: {test: 0}'"
    )


def test_connect_follows_chains() -> None:
    assert connect(ints([0, 0, 1, 1, 2]), ints([0, 1, 1, 2, 3])).tolist() == [0, 0, 0, 0, 1]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40))
def test_connect_joins_all_that_share_either(pairs: list[tuple[int, int]]) -> None:
    first = np.unique([a for a, _ in pairs], return_inverse=True)[1].astype(np.int64)
    second = np.unique([b for _, b in pairs], return_inverse=True)[1].astype(np.int64)
    joined = connect(first, second)
    same = joined[:, None] == joined
    assert same[first[:, None] == first].all()
    assert same[second[:, None] == second].all()


def test_check_apart() -> None:
    blocks = Blocks(ints([0, 0, 1]), ["ann", "bob"])
    check_apart({"train": ints([0, 1]), "test": ints([2])}, blocks, "t")
    with pytest.raises(LoadError) as caught:
        check_apart({"train": ints([0]), "test": ints([1, 2])}, blocks, "t")
    assert caught.value.line() == (
        "t: the splits 'train' and 'test' share 'ann'; "
        "put all rows of one unit or group into one split"
    )


@given(grouped(), st.integers(2, 3), st.integers(0, 99))
def test_folds_hold_blocks_whole(made: tuple[Blocks, Ints], k: int, seed: int) -> None:
    blocks, classes = made
    fold = folds(blocks, k, seed, "t", classes)
    assert set(fold.tolist()) == set(range(k))
    for block in range(len(blocks)):
        assert len(set(fold[blocks.of == block].tolist())) == 1


@given(st.lists(st.integers(0, 3), min_size=10, max_size=120), st.integers(2, 10))
def test_folds_of_rows_are_even_in_each_class(labels: list[int], k: int) -> None:
    classes = ints(labels)
    fold = folds(Blocks.rows(len(classes)), k, 0, "t", classes)
    counts = np.bincount(fold, minlength=k)
    assert counts.max() - counts.min() <= 1
    for c in set(labels):
        inside = np.bincount(fold[classes == c], minlength=k)
        assert inside.max() - inside.min() <= 1


def test_too_many_folds() -> None:
    with pytest.raises(LoadError, match=r"2 row\(s\) or group\(s\) cannot be divided into 3"):
        folds(Blocks(ints([0, 0, 0, 1])), 3, 0, "t")


def test_few_nest_and_are_balanced() -> None:
    classes = ints([i % 3 for i in range(60)])
    two = few(Blocks.rows(60), classes, 2, 0, "t", ("a", "b", "c"))
    five = few(Blocks.rows(60), classes, 5, 0, "t", ("a", "b", "c"))
    assert np.bincount(classes[two]).tolist() == [2, 2, 2]
    assert np.bincount(classes[five]).tolist() == [5, 5, 5]
    assert set(two.tolist()) < set(five.tolist())
    with pytest.raises(LoadError, match="class 'a' has 20 training rows, fewer than 21"):
        few(Blocks.rows(60), classes, 21, 0, "t", ("a", "b", "c"))
    assert len(few(Blocks.rows(60), None, 7, 0, "t")) == 7


def test_few_takes_whole_units() -> None:
    blocks = Blocks(np.repeat(np.arange(6), 3))
    rows = few(blocks, np.repeat(ints([0, 1, 0, 1, 0, 1]), 3), 2, 0, "t", ("a", "b"))
    assert len(rows) == 12
    assert len(set(blocks.of[rows].tolist())) == 4
