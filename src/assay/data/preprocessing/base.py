"""Encoded rows, and what every preprocessing is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from assay.config import Config, build, dump
from assay.data.columns import check_type
from assay.errors import ArtefactError, LoadError, UsageError, did_you_mean
from assay.files import read_json, write_json

if TYPE_CHECKING:
    import pyarrow as pa

Ints = npt.NDArray[np.int64]
#: the file of a model folder that holds the preprocessing
FILE = "preprocessing.json"


@dataclass(frozen=True, eq=False)
class Encoded:
    """Rows as numbers, without padding.

    Attributes:
        arrays: name -> `[N, ...]`, or, where `offsets` is given, `[sum of lengths, ...]`.
        offsets: `[N + 1]`: row i of every array is `array[offsets[i]:offsets[i + 1]]`.
        padding: name -> the value that fills up a batch of ragged rows (default 0).
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    offsets: Ints | None = None
    padding: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        if self.offsets is not None:
            return len(self.offsets) - 1
        return len(next(iter(self.arrays.values())))

    def lengths(self) -> Ints:
        """Length of each row (1 where rows are not ragged), `[N]`."""
        if self.offsets is None:
            return np.ones(len(self), dtype=np.int64)
        return np.diff(self.offsets)

    def batch(self, rows: Ints, pad_to: int = 1) -> dict[str, npt.NDArray[Any]]:
        """Some rows as the network's inputs.

        Args:
            rows: which rows, in which order, `[n]`.
            pad_to: ragged rows are filled up, on the right, to a multiple of this.

        Returns:
            Dense: each array `[n, ...]`. Ragged: each array `[n, L, ...]` and `attention_mask`
            `[n, L]` (1 where a row has a value), integers as int64.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if self.offsets is None:
            return {name: array[rows] for name, array in self.arrays.items()}
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        longest = max(int(lengths.max(initial=0)), 1)
        steps = np.arange(-(-longest // pad_to) * pad_to, dtype=np.int64)
        present = steps < lengths[:, None]
        index = (starts[:, None] + steps)[present]
        out: dict[str, npt.NDArray[Any]] = {}
        for name, array in self.arrays.items():
            dtype = np.dtype(np.int64) if array.dtype.kind in "iu" else array.dtype
            out[name] = np.full(
                (*present.shape, *array.shape[1:]), self.padding.get(name, 0), dtype
            )
            out[name][present] = array[index]
        out["attention_mask"] = present.astype(np.int64)
        return out

    def take(self, rows: Ints) -> Encoded:
        """Some rows, in the order given."""
        rows = np.asarray(rows, dtype=np.int64)
        if self.offsets is None:
            return Encoded({n: a[rows] for n, a in self.arrays.items()}, None, self.padding)
        lengths = self.lengths()[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        index = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Encoded({n: a[index] for n, a in self.arrays.items()}, offsets, self.padding)


class Target(Config):
    """How the values of a regression were standardised: `(value - mean) / std`.

    Attributes:
        mean: of the training targets, in the label's unit.
        std: of the training targets, above zero.
    """

    mean: float
    std: float = Field(gt=0)

    def standardise(self, values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
        """Values as the network learns them, `[N]` float32."""
        return ((np.asarray(values, np.float64) - self.mean) / self.std).astype(np.float32)

    def restore(self, outputs: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Outputs of the network in the label's unit."""
        result: npt.NDArray[np.float64] = np.asarray(outputs, np.float64) * self.std + self.mean
        return result


class Preprocessing(Config):
    """What happens to a row before the network sees it. Subclasses are final.

    Attributes:
        id: the column that names rows, if any.
        target: how the values of a regression were standardised.
    """

    kind: ClassVar[str] = ""
    id: str | None = None
    target: Target | None = None

    def ids(self, table: pa.Table) -> list[str | int]:
        """The name of each row: its value in the id column, or its position where there is none."""
        if self.id is None or self.id not in table.column_names:
            return list(range(table.num_rows))
        found: list[str | int] = table.column(self.id).to_pylist()
        return found

    @property
    def inputs(self) -> dict[str, tuple[str, int]]:
        """The network's inputs: name -> (dtype, number of dimensions)."""
        raise TypeError(f"{type(self).__name__} has no inputs")

    def encode(self, table: pa.Table) -> Encoded:
        """Encode rows. Columns that are not read may be missing, the label above all.

        Raises:
            LoadError: a column is missing or holds what it may not; names column and row.
        """
        raise TypeError(f"{type(self).__name__} encodes nothing")

    def synthetic(self, rows: int, stretch: float = 0.5) -> dict[str, npt.NDArray[Any]]:
        """A batch of the right names, types and shapes that holds no data.

        Args:
            rows: N.
            stretch: share of the longest length, for ragged inputs.
        """
        raise TypeError(f"{type(self).__name__} makes nothing up")

    def learnt_targets(self, targets: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Targets as the network learns them: values standardised, classes as they are."""
        return targets if self.target is None else self.target.standardise(targets)

    def save(self, folder: Path) -> list[str]:
        """Write it into a model folder, each file atomically.

        Returns:
            Names of the files written.

        Raises:
            LoadError: the folder cannot be written.
        """
        write_json(folder / FILE, {"kind": self.kind, **dump(self)})
        return [FILE]


def required(table: pa.Table, name: str, where: str, *, images: bool = False) -> pa.ChunkedArray:
    """A column of a table; `images` says that it is to hold pictures, which is not checked here.

    Raises:
        LoadError: it is missing, stands there twice, or holds what is no cell of a table.
    """
    found = table.column_names.count(name)
    if found != 1:
        known = [n for n in table.column_names if n != name]
        raise LoadError(
            f"the column {name!r} {'is missing' if not found else 'stands there twice'}",
            where=where,
            mend=(f"add it ({did_you_mean(name, known)})" if known else "add it")
            if not found
            else "rename one of them",
        )
    if not images:
        check_type(table.column(name), name, where)
    return table.column(name)


def load_preprocessing(folder: Path) -> Preprocessing:
    """Read what `Preprocessing.save` wrote.

    Raises:
        ArtefactError: a file is missing or damaged.
    """
    from assay.data.preprocessing.image import ImagePreprocessing
    from assay.data.preprocessing.tabular import TabularPreprocessing
    from assay.data.preprocessing.text import TOKENIZER, TextPreprocessing

    path = folder / FILE
    value = read_json(path)
    kind = value.pop("kind", None) if isinstance(value, dict) else None
    classes: dict[str, type[Preprocessing]] = {
        cls.kind: cls for cls in (TextPreprocessing, TabularPreprocessing, ImagePreprocessing)
    }
    if not isinstance(kind, str) or kind not in classes:
        raise ArtefactError(
            f"is no preprocessing: kind {kind!r}", where=str(path), mend="restore the file"
        )
    if kind == TextPreprocessing.kind:
        try:
            value["tokenizer"] = (folder / TOKENIZER).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ArtefactError(
                f"cannot read: {error}", where=str(folder / TOKENIZER), mend="restore the file"
            ) from None
    try:
        return build(classes[kind], value)
    except UsageError as error:
        raise ArtefactError(
            f"{error.where}: {error.what}", where=str(path), mend="restore the file"
        ) from None
