"""Fitting the preprocessing of a table: every statistic goes through the door.

What the schema declares costs nothing: a column with `bounds` is scaled as a uniform variable
between them, one with `categories` gets exactly these, and neither is read. All else is asked of
the door as sums over privacy units; a unit counts once however many rows it has. Where the door's
sums are noised (it says by how much), `noised` asks what has a bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from assay.data.columns import codes_of, dense, numbers, truths
from assay.data.preprocessing import noised
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
#: most categories of a column that are counted
MAX_CANDIDATES = 1000
Floats = npt.NDArray[np.float64]


def fit_tabular(dataset: Dataset, split: str, door: Door) -> TabularPreprocessing:
    """The preprocessing of the feature columns, from the rows of a split.

    Args:
        dataset: the data.
        split: the training split.
        door: where sums over units are asked for.

    Raises:
        LoadError: there is no feature column, or a feature is infinite somewhere.
        UsageError: sums are noised, and a column has no categories declared or its range cannot
            be seen through the noise.
    """
    names = dataset.schema.features()
    if not names:
        raise LoadError(
            "there are no feature columns", where=f"data {dataset.name}", mend="add some"
        )
    rows = dataset.rows(split)
    fit = _Fit(rows, dataset.units(split), door, f"data {dataset.name}")
    columns = [(name, dataset.schema.columns[name]) for name in names]
    if fit.noise:
        noised.check(columns, fit.where)
    missing = fit.missing(columns)
    features: dict[str, Feature] = {}
    features.update(fit.declared(columns, missing))
    features.update(fit.numbers([c for c in columns if c[0] not in features], missing))
    features.update(fit.categories([c for c in columns if c[0] not in features]))
    target = fit.target(dataset.targets(split)) if dataset.classes is None else None
    return TabularPreprocessing(
        columns=tuple(features[name] for name in names), target=target, id=dataset.schema.id
    )


def fit_target(dataset: Dataset, split: str, door: Door) -> Target:
    """Mean and standard deviation of the targets of a regression, from the rows of a split.

    Args:
        dataset: the data.
        split: the training split.
        door: where sums over units are asked for.

    Raises:
        UsageError: sums are noised, and the range of the targets cannot be seen through the noise.
    """
    fit = _Fit(dataset.rows(split), dataset.units(split), door, f"data {dataset.name}")
    return fit.target(dataset.targets(split))


class _Fit:
    """The rows of a split, and sums over their units."""

    def __init__(
        self, rows: pa.Table, units: npt.NDArray[np.int64], door: Door, where: str
    ) -> None:
        self.rows, self.units, self.door, self.where = rows, units, door, where
        self.rows_of = np.bincount(units).astype(np.float64)
        #: standard deviation of a sum's noise over its bound; 0 where sums are exact
        self.noise = float(getattr(door, "noise_multiplier", 0.0))

    def total(self, name: str, values: Floats, bound: float) -> Floats:
        """Sum over units of the mean of each unit's rows; `values` `[N, D]`."""
        if len(self.rows_of) < len(values):
            sums = np.zeros((len(self.rows_of), values.shape[1]))
            np.add.at(sums, self.units, values)
            values = sums / self.rows_of[:, None]
        return self.door.bounded_sum(name, values, bound)

    def missing(self, columns: list[tuple[str, Column]]) -> dict[str, bool]:
        """Which numbers and booleans need a feature that says they are missing."""
        asked, out = [], {}
        for name, column in columns:
            if column.kind == "categorical":
                continue
            if column.missing is not None:
                out[name] = column.missing
            elif column.bounds is not None or self.noise:
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
        if column.kind == "boolean":
            return truths(values)
        return numbers(values, name, self.where, time=column.kind == "time")

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
        mean, std = self.moments("preprocessing", values, [name for name, _ in chosen])
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

    def moments(
        self, name: str, values: Floats, columns: Sequence[str | None]
    ) -> tuple[Floats, Floats]:
        """Mean and standard deviation of each column of `[N, D]`, in two passes for accuracy.

        A column without values, or of one value, gets a standard deviation of 1.
        """
        if self.noise:
            ranges = [
                noised.value_range(
                    self.total, f"{name}.range", columns[i], values[:, i], self.noise, self.where
                )
                for i in range(len(columns))
            ]
            return noised.moments(self.total, f"{name}.moments", values, ranges, self.noise)
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
        out = {}
        for name, column in columns:
            counts = self.counts(name)
            ranked = sorted(counts, key=lambda word: (-counts[word], word))[:MAX_CATEGORIES]
            kept = tuple(sorted(word for word in ranked if counts[word] > 0))
            out[name] = Feature(name=name, kind=column.kind, categories=kept)
        return out

    def counts(self, name: str) -> dict[str, float]:
        """How many units have each value of a column.

        Raises:
            LoadError: it has too many values to count each.
        """
        values = self.rows.column(name)
        found = tuple(sorted(dense(values)[1]))
        if len(found) > MAX_CANDIDATES:
            raise LoadError(
                f"the column {name!r} has {len(found)} categories, over {MAX_CANDIDATES}",
                where=self.where,
                mend=f"name those that matter under 'columns: {{{name}: {{categories: [...]}}}}', "
                f"or leave it out with 'drop: [{name}]'",
            )
        codes, _ = codes_of(values, found)
        # as many categories at once as keeps the counting below a quarter of a gigabyte
        width = max(1, (1 << 25) // len(codes))
        counts = [
            self.total(
                "preprocessing.categories",
                (codes[:, None] == np.arange(first, min(first + width, len(found)))).astype(float),
                1.0,
            )
            for first in range(0, len(found), width)
        ]
        return dict(zip(found, np.concatenate([*counts, np.zeros(0)]).tolist(), strict=True))

    def target(self, values: npt.NDArray[np.float32]) -> Target:
        """Mean and standard deviation of the targets of a regression."""
        mean, std = self.moments("preprocessing.target", values.astype(np.float64)[:, None], [None])
        return Target(mean=float(mean[0]), std=float(std[0]))
