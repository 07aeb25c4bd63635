"""An opened data set: a table, its schema, and which rows each split has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from assay.claims.context import DataCard
from assay.data.digest import dataset_digest
from assay.data.schema import Schema
from assay.data.splits import Blocks, Ints, check_apart, divide, few, folds, permutation
from assay.errors import LoadError, did_you_mean
from assay.files import derive_seed, sha256

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class Dataset:
    """An immutable data set. Reading rows of a split is recorded in `opened`.

    Attributes:
        card: what is known of it, rows and classes filled in.
        table: all rows of all splits; columns without use are left out.
        schema: what its columns are.
        splits: name -> positions of its rows in `table`, int64 `[N]`; no two share a privacy unit.
        classes: class names in the order of their index; None for regression. With two classes
            the second is the positive one.
        labels: class index (int64) or value (float32) of each row of `table`.
        blocks: what splits keep together.
        unit_of: privacy unit of each row of `table`, `[rows]`.
        content: digest of the table and schema.
        inferred: columns whose kind was read from the data.
        left_out: rows left out because their pictures cannot be decoded.
        opened: splits read so far, by their names here.
        origin: the data set this one was resampled from.
        source: digest of all that the source holds, used or not, where the data are private.
    """

    card: DataCard
    table: pa.Table
    schema: Schema
    splits: Mapping[str, Ints]
    classes: tuple[str, ...] | None
    labels: npt.NDArray[Any]
    blocks: Blocks
    unit_of: Ints
    content: str
    inferred: tuple[str, ...] = ()
    left_out: int = 0
    opened: set[str] = field(default_factory=set)
    origin: Dataset | None = None
    source: str = ""

    def __post_init__(self) -> None:
        for array in (*self.splits.values(), self.labels, self.unit_of):
            array.setflags(write=False)
        object.__setattr__(self, "splits", MappingProxyType(dict(self.splits)))

    @property
    def name(self) -> str:
        """Its name in claims."""
        return self.card.name

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of the used columns, the schema and the splits."""
        return dataset_digest(self.content, self.splits)

    @property
    def positive(self) -> str | None:
        """The positive class, where there are two."""
        return self.classes[1] if self.classes is not None and len(self.classes) == 2 else None

    def positions(self, split: str) -> Ints:
        """Positions in `table` of the rows of a split, which is not opened by that.

        Raises:
            LoadError: there is no such split.
        """
        try:
            return self.splits[split]
        except KeyError:
            raise LoadError(
                f"there is no split {split!r}",
                where=f"data {self.name}",
                mend=did_you_mean(split, self.splits),
            ) from None

    def size(self, split: str) -> int:
        """Number of rows of a split."""
        return len(self.positions(split))

    def rows(self, split: str) -> pa.Table:
        """The rows of a split, in its order."""
        return self.table.take(self._open(split))

    def column(self, split: str, name: str) -> pa.ChunkedArray:
        """One column of a split.

        Raises:
            LoadError: there is no such split or column.
        """
        rows = self._open(split)
        self.schema.find(name, f"data {self.name}")
        return self.table.column(name).take(rows)

    def ids(self, split: str) -> list[str | int]:
        """The id of each row: its value in the id column, or its position in the table."""
        rows = self._open(split)
        if self.schema.id is None:
            return [int(row) for row in rows]
        found: list[str | int] = self.table.column(self.schema.id).take(rows).to_pylist()
        return found

    def targets(self, split: str) -> npt.NDArray[Any]:
        """Class index (int64) or value (float32) of each row, `[N]`."""
        return self.labels[self._open(split)]

    def units(self, split: str) -> Ints:
        """Privacy unit of each row, numbered from 0 by first appearance in the split, `[N]`."""
        found = self.unit_of[self._open(split)]
        _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
        rank = np.empty(len(first), dtype=np.int64)
        rank[np.argsort(first, kind="stable")] = np.arange(len(first))
        return rank[inverse]

    def _open(self, split: str) -> Ints:
        rows = self.positions(split)
        self.opened.add(split)
        if self.origin is not None:
            self.origin._touch(rows)
        return rows

    def _touch(self, rows: Ints) -> None:
        """Record that rows were read through a resampled data set."""
        read = np.zeros(len(self.labels), dtype=np.bool_)
        read[rows] = True
        self.opened.update(name for name, own in self.splits.items() if read[own].any())
        if self.origin is not None:
            self.origin._touch(rows)

    def with_splits(self, splits: Mapping[str, Ints], name: str | None = None) -> Dataset:
        """The same table, divided otherwise. What is read of it counts as read of this one too.

        Args:
            splits: name -> positions in `table`.
            name: the new data set's name in claims (default: the same).

        Raises:
            LoadError: two splits share a row, a privacy unit or a group.
        """
        own = {k: np.array(v, dtype=np.int64) for k, v in splits.items()}
        check_apart(own, self.blocks, f"data {name or self.name}")
        card = self.card.model_copy(
            update={
                "name": name or self.name,
                "splits": tuple(own),
                "rows": sum(len(v) for v in own.values()),
            }
        )
        return replace(self, card=card, splits=own, opened=set(), origin=self)

    def relabelled(self, rows: Ints, labels: npt.NDArray[Any]) -> Dataset:
        """The same rows, some with other targets (mislabelled canaries); the table is not changed.

        What is read of it counts as read of this one too.

        Args:
            rows: `[n]` positions in `table`, no one twice.
            labels: `[n]` class index or value of each.

        Raises:
            ValueError: a class that there is not, a value that is not finite, or not one a row.
        """
        given = np.asarray(labels, dtype=self.labels.dtype)
        if given.shape != np.shape(rows) or len(np.unique(rows)) != len(rows):
            raise ValueError(f"expected one label a row, got {given.shape} for {np.shape(rows)}")
        if self.classes is not None and not np.isin(given, range(len(self.classes))).all():
            raise ValueError(f"expected classes in 0..{len(self.classes) - 1}")
        if not np.isfinite(given).all():
            raise ValueError("expected finite labels")
        changed = self.labels.copy()
        changed[rows] = given
        content = sha256(self.content.encode() + changed.tobytes())
        return replace(self, labels=changed, content=content, opened=set(), origin=self)

    def _classes_of(self, rows: Ints) -> Ints | None:
        return None if self.classes is None else self.labels[rows].astype(np.int64)

    def folds(
        self,
        k: int,
        repeats: int = 1,
        seed: int = 0,
        pool: tuple[str, ...] | None = None,
        valid: float = 0.0,
    ) -> Iterator[tuple[int, int, Dataset]]:
        """Repeated k-fold cross-validation: classes in proportion, units and groups whole.

        Args:
            k: folds, at least 2.
            repeats: how often the rows are dealt anew.
            seed: decides how.
            pool: the splits whose rows take part (default: all).
            valid: share of each training part held back as `valid`.

        Yields:
            (repeat, fold, data set with splits `train`, `test` and, if asked for, `valid`).

        Raises:
            LoadError: too few rows, units or groups.
        """
        where = f"data {self.name}"
        rows = np.sort(np.concatenate([self.positions(s) for s in pool or tuple(self.splits)]))
        blocks, classes = self.blocks.among(rows), self._classes_of(rows)
        for repeat in range(repeats):
            fold = folds(blocks, k, derive_seed(seed, repeat), where, classes)
            for i in range(k):
                parts = {"train": rows[fold != i], "test": rows[fold == i]}
                if valid > 0:
                    parts |= self._hold_back(parts["train"], valid, derive_seed(seed, repeat, i))
                yield repeat, i, self.with_splits(parts)

    def _hold_back(self, rows: Ints, share: float, seed: int) -> dict[str, Ints]:
        blocks, classes = self.blocks.among(rows), self._classes_of(rows)
        where = f"data {self.name}"
        parts = divide(blocks, {"valid": share}, "grouped", seed=seed, where=where, classes=classes)
        return {name: rows[part] for name, part in parts.items()}

    def few(self, k: int, seed: int = 0) -> Dataset:
        """The data set with `k` training units a class (`k` in all for regression).

        Raises:
            LoadError: a class has fewer.
        """
        rows = self.positions("train")
        chosen = few(
            self.blocks.among(rows),
            self._classes_of(rows),
            k,
            seed,
            f"data {self.name}",
            self.classes or (),
        )
        return self.with_splits({**self.splits, "train": rows[chosen]})

    def sample(self, split: str, n: int, seed: int = 0) -> Dataset:
        """The data set with at most `n` rows of one split, chosen by the seed."""
        rows = self.positions(split)
        chosen = np.sort(permutation(len(rows), derive_seed(seed, "sample", split))[:n])
        return self.with_splits({**self.splits, split: rows[chosen]})
