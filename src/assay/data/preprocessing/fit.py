"""Fitting the preprocessing of a table: every statistic goes through the door.

What the schema declares costs nothing: a column with `bounds` is scaled as a uniform variable
between them, one with `categories` gets exactly these, and neither is read. All else is asked of
the door as sums over privacy units; a unit counts once however many rows it has.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from assay.data.columns import codes_of, dense, numbers, truths
from assay.data.preprocessing.base import Target
from assay.data.preprocessing.tabular import Feature, TabularPreprocessing
from assay.errors import LoadError

if TYPE_CHECKING:
    import pyarrow as pa

    from assay.data.dataset import Dataset
    from assay.data.door import Door
    from assay.data.schema import Column

#: most categories of a column that get a place of their own
MAX_CATEGORIES = 64
Floats = npt.NDArray[np.float64]


def fit_tabular(dataset: Dataset, split: str, door: Door) -> TabularPreprocessing:
    """The preprocessing of the feature columns, from the rows of a split.

    Args:
        dataset: the data.
        split: the training split.
        door: where sums over units are asked for.

    Raises:
        LoadError: there is no feature column, or a feature is infinite somewhere.
    """
    names = dataset.schema.features()
    if not names:
        raise LoadError(
            "there are no feature columns", where=f"data {dataset.name}", mend="add some"
        )
    rows = dataset.rows(split)
    fit = _Fit(rows, dataset.units(split), door, f"data {dataset.name}")
    columns = [(name, dataset.schema.columns[name]) for name in names]
    missing = fit.missing(columns)
    features: dict[str, Feature] = {}
    features.update(fit.declared(columns, missing))
    features.update(fit.numbers([c for c in columns if c[0] not in features], missing))
    features.update(fit.categories([c for c in columns if c[0] not in features]))
    target = fit.target(dataset.targets(split)) if dataset.classes is None else None
    return TabularPreprocessing(columns=tuple(features[name] for name in names), target=target)


class _Fit:
    """The rows of a split, and sums over their units."""

    def __init__(
        self, rows: pa.Table, units: npt.NDArray[np.int64], door: Door, where: str
    ) -> None:
        self.rows, self.units, self.door, self.where = rows, units, door, where
        self.rows_of = np.bincount(units).astype(np.float64)

    def total(self, name: str, values: Floats, bound: float) -> Floats:
        """Sum over units of the mean of each unit's rows; `values` `[N, D]`."""
        sums = np.zeros((len(self.rows_of), values.shape[1]))
        np.add.at(sums, self.units, values)
        return self.door.bounded_sum(name, sums / self.rows_of[:, None], bound)

    def missing(self, columns: list[tuple[str, Column]]) -> dict[str, bool]:
        """Which numbers and booleans need a feature that says they are missing."""
        asked, out = [], {}
        for name, column in columns:
            if column.kind == "categorical":
                continue
            if column.missing is not None:
                out[name] = column.missing
            elif column.bounds is not None:
                out[name] = True
            else:
                asked.append((name, column))
        if asked:
            gaps = np.stack([np.isnan(self._values(*item)) for item in asked], axis=1)
            bound = math.sqrt(len(asked))
            found = self.total("preprocessing.missing", gaps.astype(np.float64), bound)
            out |= {name: bool(found[i] > 0) for i, (name, _) in enumerate(asked)}
        return out

    def _values(self, name: str, column: Column) -> Floats:
        values = self.rows.column(name)
        return truths(values) if column.kind == "boolean" else numbers(values, name, self.where)

    def declared(
        self, columns: list[tuple[str, Column]], missing: dict[str, bool]
    ) -> dict[str, Feature]:
        """The features that need no statistic."""
        out = {}
        for name, column in columns:
            if column.kind == "boolean":
                out[name] = Feature(name=name, kind="boolean", missing=missing[name])
            elif column.bounds is not None:
                low, high = column.bounds
                out[name] = Feature(
                    name=name,
                    kind=column.kind,
                    mean=(low + high) / 2,
                    std=(high - low) / math.sqrt(12),
                    bounds=column.bounds,
                    missing=missing[name],
                )
            elif column.categories is not None:
                out[name] = Feature(name=name, kind=column.kind, categories=column.categories)
        return out

    def numbers(
        self, columns: list[tuple[str, Column]], missing: dict[str, bool]
    ) -> dict[str, Feature]:
        """Mean and standard deviation of the values that are not missing."""
        if not columns or all(column.kind == "categorical" for _, column in columns):
            return {}
        chosen = [(n, c) for n, c in columns if c.kind != "categorical"]
        values = np.stack([self._values(*item) for item in chosen], axis=1)
        mean, std = self.moments("preprocessing", values)
        return {
            name: Feature(
                name=name,
                kind=column.kind,
                mean=float(mean[i]),
                std=float(std[i]),
                missing=missing[name],
            )
            for i, (name, column) in enumerate(chosen)
        }

    def moments(self, name: str, values: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of each column of `[N, D]`, in two passes for accuracy.

        A column without values, or of one value, gets a standard deviation of 1.
        """
        present = ~np.isnan(values)
        filled = np.where(present, values, 0.0)
        d = values.shape[1]
        sums = self.total(
            f"{name}.mean", np.concatenate([present.astype(np.float64), filled], axis=1), math.inf
        )
        count = np.maximum(sums[:d], 1.0)
        mean = sums[d:] / count
        spread = np.where(present, np.square(filled - mean), 0.0)
        variance = self.total(f"{name}.variance", spread, math.inf) / count
        std = np.sqrt(np.maximum(variance, 0.0))
        # below what rounding leaves of a constant column, there is no spread
        flat = ~(std > 1e-9 * np.maximum(np.abs(mean), 1e-300))
        return mean, np.where(flat, 1.0, std)

    def categories(self, columns: list[tuple[str, Column]]) -> dict[str, Feature]:
        """The most frequent categories of each column, in alphabetical order."""
        if not columns:
            return {}
        places, blocks = {}, []
        start = 0
        for name, _ in columns:
            found = tuple(sorted(w for w in dense(self.rows.column(name))[1] if w is not None))
            codes, _ = codes_of(self.rows.column(name), found)
            hot = np.zeros((len(codes), len(found)))
            hot[np.flatnonzero(codes >= 0), codes[codes >= 0]] = 1.0
            places[name] = (found, start, start + len(found))
            start += len(found)
            blocks.append(hot)
        bound = math.sqrt(len(columns))
        counts = self.total("preprocessing.categories", np.concatenate(blocks, axis=1), bound)
        out = {}
        for name, _ in columns:
            found, first, last = places[name]
            ranked = sorted(zip(-counts[first:last], found, strict=True))[:MAX_CATEGORIES]
            kept = tuple(sorted(word for negative, word in ranked if negative < 0))
            out[name] = Feature(name=name, kind="categorical", categories=kept)
        return out

    def target(self, values: npt.NDArray[np.float32]) -> Target:
        """Mean and standard deviation of the targets of a regression."""
        mean, std = self.moments("preprocessing.target", values.astype(np.float64)[:, None])
        return Target(mean=float(mean[0]), std=float(std[0]))
