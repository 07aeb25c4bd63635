"""Dividing rows into splits, folds and small training sets: the same in every process.

The unit of division is a *block*: a row, or all rows that share a privacy unit or a group (where
both are given, whatever they connect). A block never falls into two parts. Blocks are ordered by a
keyed hash of their name, or, where rows have no name, by the raw output of a seeded PCG64, which
NumPy promises to keep (https://numpy.org/neps/nep-0019-rng-policy.html); nothing here depends on
PYTHONHASHSEED, on threads or on the number of processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from assay.errors import LoadError
from assay.files import derive_seed

Ints = npt.NDArray[np.int64]
How = Literal["stratified", "grouped", "time", "random", "hash"]
#: the parts in which time passes
ORDER = ("train", "valid", "test")


def permutation(n: int, seed: int) -> Ints:
    """A permutation of `0..n-1` that depends on `n` and `seed` alone."""
    raw = np.random.PCG64(seed).random_raw(n) if n else np.zeros(0, np.uint64)
    return np.argsort(np.atleast_1d(raw), kind="stable").astype(np.int64)


def keyed_hashes(names: Sequence[str], seed: int) -> npt.NDArray[np.uint64]:
    """A 64-bit number for each name, `[N]`: BLAKE2b keyed by the seed."""
    key = derive_seed(seed, "split").to_bytes(8, "big")
    digests = b"".join(
        hashlib.blake2b(name.encode(), digest_size=8, key=key).digest() for name in names
    )
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def connect(first: Ints, second: Ints) -> Ints:
    """Blocks of rows connected through either of two groupings, dense, by first appearance, `[N]`.

    >>> connect(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2])).tolist()
    [0, 0, 0, 1]
    """
    label = np.arange(len(first), dtype=np.int64)
    while True:
        before = label
        for groups in (first, second):
            lowest = np.full(int(groups.max(initial=-1)) + 1, len(first), dtype=np.int64)
            np.minimum.at(lowest, groups, label)
            label = lowest[groups]
        if np.array_equal(before, label):
            return np.unique(label, return_inverse=True)[1].astype(np.int64)


class Blocks:
    """The blocks of a set of rows.

    Attributes:
        of: block of each row, `[N]`, dense.
        sizes: rows in each block, `[B]`.
        names: name of each block, or None where rows have no name.
    """

    def __init__(self, of: Ints, names: Sequence[str] | None = None) -> None:
        self.of = np.asarray(of, dtype=np.int64)
        self.sizes: Ints = np.bincount(self.of).astype(np.int64)
        self.names = names

    @classmethod
    def rows(cls, n: int, names: Sequence[str] | None = None) -> Blocks:
        """Every row a block of its own."""
        return cls(np.arange(n, dtype=np.int64), names)

    def __len__(self) -> int:
        return len(self.sizes)

    def among(self, rows: Ints) -> Blocks:
        """The blocks of some rows, renumbered."""
        found, index = np.unique(self.of[rows], return_inverse=True)
        return Blocks(index, None if self.names is None else [self.names[i] for i in found])

    def order(self, seed: int) -> Ints:
        """The blocks in an order that the seed decides."""
        if self.names is None:
            return permutation(len(self), derive_seed(seed, "split"))
        order: Ints = np.argsort(keyed_hashes(self.names, seed), kind="stable").astype(np.int64)
        return order

    def strata(self, classes: Ints | None) -> Ints:
        """The class most frequent in each block (ties: the lower), `[B]`; zeros without classes."""
        if classes is None or len(self) == 0:
            return np.zeros(len(self), dtype=np.int64)
        if len(self) == len(self.of):
            found = np.empty(len(self), dtype=np.int64)
            found[self.of] = classes
            return found
        counts = np.zeros((len(self), int(classes.max()) + 1), dtype=np.int64)
        np.add.at(counts, (self.of, classes), 1)
        most: Ints = counts.argmax(axis=1).astype(np.int64)
        return most

    def collect(self, part: Ints, names: Sequence[str]) -> dict[str, Ints]:
        """Rows of each named part, ascending, from the part index of each block."""
        rows = part[self.of]
        return {name: np.flatnonzero(rows == i).astype(np.int64) for i, name in enumerate(names)}


def divide(
    blocks: Blocks,
    shares: Mapping[str, float],
    how: How,
    *,
    seed: int,
    where: str,
    classes: Ints | None = None,
    class_names: Sequence[str] = (),
    times: npt.NDArray[np.float64] | None = None,
) -> dict[str, Ints]:
    """Divide rows into parts.

    Args:
        blocks: what must stay together.
        shares: part -> share of the rows; what is left is `train`.
        how: see `SplitSpec.by`; `grouped` also keeps classes in proportion as well as it can.
        seed: decides the order.
        where: name of the data, for messages.
        classes: class of each row `[N]`.
        class_names: their names, for messages.
        times: when each row was taken `[N]` (for `time`).

    Returns:
        Part -> ascending row positions; parts with share 0 are left out.

    Raises:
        LoadError: a class or the groups are too few for every part to get one, or a part is empty.
    """
    names = tuple(n for n in ORDER if n == "train" or shares.get(n, 0) > 0)
    _enough_blocks(blocks, names, how, where)
    if how == "time":
        assert times is not None
        part = _by_time(blocks, shares, names, times)
    elif how == "hash":
        part = _by_hash(blocks, shares, names, seed)
    else:
        strata = blocks.strata(classes if how in ("stratified", "grouped") else None)
        if how == "stratified" and classes is not None:
            _enough_of_each(strata, names, class_names, where)
        order = blocks.order(seed)
        part = _by_share(blocks, shares, names, strata, order)
        if how == "grouped" and len(np.unique(part)) < len(names):
            # so few groups that keeping classes in proportion leaves a part without any
            part = _by_share(blocks, shares, names, np.zeros_like(strata), order)
    found = blocks.collect(part, names)
    for name, rows in found.items():
        if len(rows) == 0:
            groups = f" in {len(blocks)} groups" if len(blocks) < len(blocks.of) else ""
            instants = " (those of one instant stay together)" if how == "time" else ""
            zero = f"set 'splits: {{{name}: 0}}'" if name != "train" else "set smaller shares"
            raise LoadError(
                f"the split {name!r} is empty: {len(blocks.of)} rows{groups} are too few{instants}",
                where=where,
                mend=f"give more rows, or {zero}",
            )
    return found


def _enough_blocks(blocks: Blocks, names: Sequence[str], how: str, where: str) -> None:
    if len(blocks) < len(names) and len(blocks) < len(blocks.of):
        raise LoadError(
            f"{len(blocks)} group(s) cannot be divided into {', '.join(names)}",
            where=where,
            mend="name a column with more groups, or set 'splits: {valid: 0}'",
        )


def _enough_of_each(
    strata: Ints, names: Sequence[str], class_names: Sequence[str], where: str
) -> None:
    counts = np.bincount(strata, minlength=len(class_names))
    # a declared class may have no rows at all
    for index in np.flatnonzero((counts > 0) & (counts < len(names))).tolist():
        count = int(counts[index])
        name = class_names[index] if index < len(class_names) else str(index)
        raise LoadError(
            f"class {name!r} has {count} row{'s' * (count != 1)}, too few to be in each of "
            f"{', '.join(names)}",
            where=where,
            mend="add rows of it, leave it out, or set 'splits: {by: random}'",
        )


def _by_share(
    blocks: Blocks, shares: Mapping[str, float], names: Sequence[str], strata: Ints, order: Ints
) -> Ints:
    """Part of each block: within a stratum, by where the block's middle falls in the order."""
    part = np.zeros(len(blocks), dtype=np.int64)
    # test comes first and valid next, so that another share of valid leaves the test as it was
    taking = [n for n in ("test", "valid") if n in names]
    for stratum in np.unique(strata):
        inside = order[strata[order] == stratum]
        sizes = blocks.sizes[inside]
        middle = (np.cumsum(sizes) - sizes / 2) / sizes.sum()
        start = 0.0
        chosen = np.zeros(len(inside), dtype=np.int64)
        for name in taking:
            stop = start + shares[name]
            chosen[(middle >= start) & (middle < stop)] = names.index(name)
            start = stop
        _fill_empty(chosen, len(names))
        part[inside] = chosen
    return part


def _fill_empty(chosen: Ints, parts: int) -> None:
    """Where there are blocks enough, give a part that got none one of the fullest part's."""
    if len(chosen) < parts:
        return
    for index in range(parts):
        if not (chosen == index).any():
            fullest = int(np.bincount(chosen, minlength=parts).argmax())
            chosen[np.flatnonzero(chosen == fullest)[0]] = index


def _by_hash(blocks: Blocks, shares: Mapping[str, float], names: Sequence[str], seed: int) -> Ints:
    labels = blocks.names if blocks.names is not None else [str(i) for i in range(len(blocks))]
    place = keyed_hashes(labels, seed).astype(np.float64) / 2.0**64
    part = np.zeros(len(blocks), dtype=np.int64)
    start = 0.0
    for name in (n for n in ("test", "valid") if n in names):
        stop = start + shares[name]
        part[(place >= start) & (place < stop)] = names.index(name)
        start = stop
    return part


def _by_time(
    blocks: Blocks,
    shares: Mapping[str, float],
    names: Sequence[str],
    times: npt.NDArray[np.float64],
) -> Ints:
    """Newest blocks last; a block is as new as its newest row: training never sees later ones."""
    newest = np.full(len(blocks), -np.inf)
    np.maximum.at(newest, blocks.of, times)
    instants, index = np.unique(newest, return_inverse=True)
    rows = np.bincount(index, weights=blocks.sizes)
    middle = (np.cumsum(rows) - rows / 2) / rows.sum()
    chosen = np.zeros(len(instants), dtype=np.int64)
    stop = 1.0
    for name in (n for n in ("test", "valid") if n in names):
        start = stop - shares[name]
        chosen[(middle >= start) & (middle < stop)] = names.index(name)
        stop = start
    return chosen[index]


def check_apart(splits: Mapping[str, Ints], blocks: Blocks, where: str) -> None:
    """Refuse splits that share a row, or a block of several rows.

    Raises:
        LoadError: names the two splits and what they share.
    """
    owner = np.full(len(blocks), -1, dtype=np.int64)
    names = list(splits)
    for i, name in enumerate(names):
        found = blocks.of[splits[name]]
        taken = found[owner[found] >= 0]
        if len(taken):
            block = int(taken[0])
            shown = blocks.names[block] if blocks.names is not None else f"row {block + 1}"
            raise LoadError(
                f"the splits {names[int(owner[block])]!r} and {name!r} share {shown!r}",
                where=where,
                mend="put all rows of one unit or group into one split",
            )
        owner[found] = i


def folds(blocks: Blocks, k: int, seed: int, where: str, classes: Ints | None = None) -> Ints:
    """Fold `0..k-1` of each row, `[N]`: classes in proportion, blocks whole, sizes even.

    Raises:
        LoadError: fewer blocks than folds.
    """
    if len(blocks) < k:
        raise LoadError(
            f"{len(blocks)} row(s) or group(s) cannot be divided into {k} folds",
            where=where,
            mend="use fewer folds",
        )
    strata = blocks.strata(classes)
    order = blocks.order(derive_seed(seed, "folds"))
    fold = np.zeros(len(blocks), dtype=np.int64)
    alone = bool((blocks.sizes == 1).all())
    dealt = 0
    total = np.zeros(k, dtype=np.int64)
    for stratum in np.unique(strata):
        inside = order[strata[order] == stratum]
        if alone:
            # dealt like cards, going on where the class before stopped
            fold[inside] = (dealt + np.arange(len(inside))) % k
            dealt += len(inside)
            continue
        held = np.zeros(k, dtype=np.int64)
        for block in inside[np.argsort(-blocks.sizes[inside], kind="stable")]:
            best = int(np.lexsort((total, held))[0])
            fold[block] = best
            held[best] += blocks.sizes[block]
            total[best] += blocks.sizes[block]
    return fold[blocks.of]


def few(
    blocks: Blocks, classes: Ints | None, k: int, seed: int, where: str, names: Sequence[str] = ()
) -> Ints:
    """Rows of `k` blocks a class (`k` blocks in all without classes), ascending.

    The blocks for a smaller `k` are among those for a greater one.

    Raises:
        LoadError: a class has fewer.
    """
    strata = blocks.strata(classes)
    order = blocks.order(derive_seed(seed, "few"))
    keep = np.zeros(len(blocks), dtype=np.bool_)
    for stratum in range(len(names)) if len(names) else np.unique(strata):
        inside = order[strata[order] == stratum]
        if len(inside) < k:
            label = f"class {names[stratum]!r} has" if len(names) else "there are"
            raise LoadError(
                f"{label} {len(inside)} training rows, fewer than {k}",
                where=where,
                mend="ask for fewer",
            )
        keep[inside[:k]] = True
    return np.flatnonzero(keep[blocks.of]).astype(np.int64)
