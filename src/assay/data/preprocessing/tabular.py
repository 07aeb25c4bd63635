"""Columns of a table as one vector of features a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from assay.config import Config
from assay.data.columns import codes_of, numbers, truths
from assay.data.preprocessing.base import Encoded, Preprocessing, required
from assay.data.schema import Kind

if TYPE_CHECKING:
    import pyarrow as pa


class Feature(Config):
    """How one column becomes numbers.

    | kind | becomes |
    | --- | --- |
    | numeric, time | `(value - mean) / std`, within `clip`; 0 where missing |
    | boolean | 1, -1; 0 where missing |
    | categorical | one 0/1 a category, and one for every other value and for missing ones |

    Attributes:
        name: the column.
        kind: what it is; a time is a number of days since 1970.
        mean: what stands for 0, in the column's unit.
        std: what stands for 1.
        bounds: values are clipped to these first, where they are declared.
        categories: in the order of their place.
        missing: a further 0/1 says that the value is missing (numbers and booleans).
    """

    name: str
    kind: Kind
    mean: float = 0.0
    std: float = Field(default=1.0, gt=0)
    bounds: tuple[float, float] | None = None
    categories: tuple[str, ...] = ()
    missing: bool = False

    def names(self) -> tuple[str, ...]:
        """A name for each number it becomes."""
        if self.kind == "categorical":
            return (*(f"{self.name}={c}" for c in self.categories), f"{self.name} other")
        return (self.name, f"{self.name} missing") if self.missing else (self.name,)


class TabularPreprocessing(Preprocessing):
    """Gives each row one float32 vector, `features` `[N, F]`.

    Attributes:
        columns: the columns that are read, in this order.
        clip: standardised numbers are clipped to plus and minus this.
    """

    kind: ClassVar[str] = "tabular"

    columns: tuple[Feature, ...] = Field(min_length=1)
    clip: float = Field(default=10.0, gt=0)

    @model_validator(mode="after")
    def _check(self) -> TabularPreprocessing:
        names = [feature.name for feature in self.columns]
        if len(set(names)) != len(names):
            raise ValueError("a column stands there twice; list each once")
        return self

    @property
    def inputs(self) -> dict[str, tuple[str, int]]:
        """See `Preprocessing.inputs`."""
        return {"features": ("float32", 2)}

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each of the F features."""
        return tuple(name for feature in self.columns for name in feature.names())

    @property
    def width(self) -> int:
        """F, the number of features."""
        return len(self.names)

    def encode(self, table: pa.Table) -> Encoded:
        """See `Preprocessing.encode`: dense `features` `[N, F]` float32."""
        out = np.zeros((table.num_rows, self.width), dtype=np.float32)
        start = 0
        for feature in self.columns:
            width = len(feature.names())
            column = required(table, feature.name, "data")
            self._fill(out[:, start : start + width], feature, column)
            start += width
        return Encoded({"features": out})

    def synthetic(self, rows: int, stretch: float = 0.5) -> dict[str, npt.NDArray[np.float32]]:
        """See `Preprocessing.synthetic`: standard normal features."""
        rng = np.random.default_rng(0)
        return {"features": rng.standard_normal((rows, self.width), dtype=np.float32)}

    def _fill(
        self, out: npt.NDArray[np.float32], feature: Feature, column: pa.ChunkedArray
    ) -> None:
        """Write the features of one column into its place `[N, width]`."""
        if feature.kind == "categorical":
            codes, _ = codes_of(column, feature.categories)
            out[np.arange(len(codes)), np.where(codes < 0, len(feature.categories), codes)] = 1.0
            return
        if feature.kind == "boolean":
            values = truths(column) * 2.0 - 1.0
        else:
            values = numbers(column, feature.name, "data", time=feature.kind == "time")
            if feature.bounds is not None:
                values = np.clip(values, *feature.bounds)
            values = np.clip((values - feature.mean) / feature.std, -self.clip, self.clip)
        missing = np.isnan(values)
        out[:, 0] = np.where(missing, 0.0, values)
        if feature.missing:
            out[:, 1] = missing
