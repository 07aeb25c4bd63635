"""What a model says of rows, as a value; needs neither torch nor transformers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from assay.errors import ArtefactError, LoadError, UsageError
from assay.files import atomic

if TYPE_CHECKING:
    import pyarrow as pa

    from assay.data.preprocessing import Encoded, Preprocessing, Target

#: file endings that `Predictions.write` knows
SUFFIXES = (".csv", ".parquet", ".jsonl")
#: the columns that a folder of pictures becomes: the names of its files, and their bytes
FILE_COLUMN, IMAGE_COLUMN = "file", "image"


@dataclass(frozen=True)
class Predictions:
    """Predictions for N rows, in the order of the rows.

    Attributes:
        ids: what each row is called.
        classes: names of the K classes; None for a regression.
        probabilities: `[N, K]`, rows sum to 1; None for a regression.
        values: `[N]` predicted values in the label's unit of measure; None for a classification.
        decided: `[N]` index of the class decided on; None stands for the most probable one.
    """

    ids: Sequence[str | int]
    classes: tuple[str, ...] | None = None
    probabilities: npt.NDArray[np.floating[Any]] | None = None
    values: npt.NDArray[np.floating[Any]] | None = None
    decided: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        n = len(self.ids)
        if (self.probabilities is None) == (self.values is None):
            raise ValueError("expected either probabilities or values")
        if self.probabilities is not None:
            expected = (n, len(self.classes or ()))
            if self.probabilities.shape != expected:
                raise ValueError(
                    f"expected probabilities {expected}, got {self.probabilities.shape}"
                )
        for given in (self.values, self.decided):
            if given is not None and given.shape != (n,):
                raise ValueError(f"expected shape {(n,)}, got {given.shape}")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def indices(self) -> npt.NDArray[np.int64]:
        """`[N]` index of the decided class.

        Raises:
            ValueError: this is a regression.
        """
        if self.decided is not None:
            return self.decided
        if self.probabilities is None:
            raise ValueError("a regression decides on no class")
        found: npt.NDArray[np.int64] = self.probabilities.argmax(axis=1).astype(np.int64)
        return found

    @property
    def labels(self) -> list[str]:
        """The name of the decided class of each row.

        Raises:
            ValueError: this is a regression.
        """
        names = self.classes or ()
        return [names[i] for i in self.indices]

    def to_table(self) -> pa.Table:
        """Columns `id`, `prediction` and, for a classification, `probability_<class>`."""
        import pyarrow as pa

        ids = list(self.ids)
        if len({type(i) for i in ids}) > 1:
            ids = [str(i) for i in ids]
        columns: dict[str, pa.Array] = {"id": pa.array(ids)}
        if self.probabilities is None:
            columns["prediction"] = pa.array(self.values)
        else:
            columns["prediction"] = pa.array(self.labels, type=pa.string())
            for k, name in enumerate(self.classes or ()):
                columns[f"probability_{name}"] = pa.array(self.probabilities[:, k])
        return pa.table(columns)

    def write(self, path: Path) -> None:
        """Write a CSV, Parquet or JSON Lines file, chosen by its ending, atomically.

        Raises:
            UsageError: the ending is none of these.
            LoadError: the file cannot be written.
        """
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise UsageError(
                f"cannot write predictions as {path.suffix or 'a file without an ending'}",
                where=str(path),
                mend="name a file that ends in " + ", ".join(SUFFIXES),
            )
        table = self.to_table()
        with atomic(path) as stream:
            if suffix == ".csv":
                from pyarrow import csv

                csv.write_csv(table, stream)
            elif suffix == ".parquet":
                from pyarrow import parquet

                parquet.write_table(table, stream)
            else:
                for row in table.to_pylist():
                    stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def predict_rows(
    rows: Any,
    preprocessing: Preprocessing,
    task: Any,
    classes: tuple[str, ...] | None,
    outputs: Callable[[Encoded], npt.NDArray[np.float32]],
) -> Predictions:
    """Predict rows by some function from encoded rows to outputs.

    Args:
        rows: see `as_table`.
        preprocessing: from rows to the network's inputs.
        task: what the outputs mean.
        classes: class names; None for a regression.
        outputs: encoded rows -> `[N, K]`, in the target's own unit for a regression.

    Returns:
        Predictions; rows are called as in the column `id`, pictures as in `file`, else by their
        number from 0.

    Raises:
        LoadError: no rows, or rows that do not fit the preprocessing.
    """
    table = as_table(rows)
    if not len(table):
        raise LoadError("there are no rows", where="the input", mend="give at least one row")
    names = ["id"]
    if preprocessing.kind == "image":
        table, names = _with_pictures(table, preprocessing), [*names, FILE_COLUMN]
    named = next((name for name in names if name in table.column_names), None)
    ids = table[named].to_pylist() if named is not None else list(range(len(table)))
    found = outputs(preprocessing.encode(table))
    if classes is None:
        return Predictions(ids=ids, values=np.asarray(task.decide(found), dtype=np.float64))
    return Predictions(
        ids=ids,
        classes=classes,
        probabilities=task.probabilities(found),
        decided=np.asarray(task.decide(found), dtype=np.int64),
    )


def _with_pictures(table: pa.Table, preprocessing: Any) -> pa.Table:
    """A table of files with its pictures under the name that the model's data had for them."""
    if set(table.column_names) != {FILE_COLUMN, IMAGE_COLUMN}:
        return table
    return table.select([FILE_COLUMN, IMAGE_COLUMN]).rename_columns(
        [FILE_COLUMN, preprocessing.column]
    )


def as_table(rows: Any) -> pa.Table:
    """A pyarrow table from one, from a list of dicts, or from the path of a file or folder.

    Args:
        rows: a table; a list of dicts; the path of a table, of a picture, or of a folder of
            pictures, each of which becomes a row with its path below the folder in the column
            `file`, its bytes in the column `image`.

    Raises:
        LoadError: it is none of these, or the file cannot be read.
    """
    import pyarrow as pa

    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, (str, Path)):
        from assay.data.files import table_of
        from assay.data.image_folders import is_picture, pictures, table_of_pictures

        path = Path(rows)
        if not is_picture(path) and not path.is_dir():
            return table_of(path)
        return table_of_pictures([path] if path.is_file() else pictures(path), path)
    if isinstance(rows, Sequence) and all(isinstance(row, Mapping) for row in rows):
        try:
            return pa.Table.from_pylist([dict(row) for row in rows])
        except pa.ArrowInvalid as error:
            raise LoadError(
                f"rows do not make a table: {error}", where="the input", mend="give like rows"
            ) from None
    raise LoadError(
        f"cannot read rows from {type(rows).__name__}",
        where="the input",
        mend="give a table, a list of dicts or the path of a file",
    )


def length_batches(
    lengths: npt.NDArray[np.int64], batch_size: int
) -> Iterator[npt.NDArray[np.int64]]:
    """Row positions in batches of like length, longest first (so that memory peaks at once)."""
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def unscale(outputs: npt.NDArray[np.float32], target: Target | None) -> npt.NDArray[np.float32]:
    """Outputs of a regression in the label's unit; those of a classification as they are.

    Raises:
        ArtefactError: an output is not a finite number.
    """
    bad = ~np.isfinite(outputs).all(axis=1)
    if bad.any():
        value = outputs[~np.isfinite(outputs)][0]
        raise ArtefactError(
            f"the model gives {value} for row {int(np.argmax(bad)) + 1}",
            mend="train again with a lower rate or clipping",
        )
    return outputs if target is None else target.restore(outputs).astype(np.float32)
