"""What a reader of files and a sample hand over: a table, and what is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from assay.claims.context import DataCard
from assay.config import Config
from assay.data.schema import Override
from assay.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa


@dataclass(frozen=True)
class Source:
    """A table and what is known about it.

    Attributes:
        table: all rows of all splits.
        columns: what is known of some columns.
        splits: name -> row positions, where splits were given (any of `train`, `valid`, `test`).
        positive: the positive class, where one is natural.
    """

    table: pa.Table
    columns: Mapping[str, Override] = field(default_factory=dict)
    splits: Mapping[str, npt.NDArray[np.int64]] | None = None
    positive: str | None = None

    def keep(self, rows: npt.NDArray[np.bool_]) -> Source:
        """The source with the rows for which `rows` `[N]` is true; splits left empty are gone."""
        place = rows.cumsum() - 1
        splits = self.splits
        if splits is not None:
            splits = {name: place[own[rows[own]]] for name, own in splits.items()}
            splits = {name: own for name, own in splits.items() if len(own)}
        return replace(self, table=self.table.take(rows.nonzero()[0]), splits=splits)


class Sample(Config):
    """A named data set that comes with an extra. Registered as kind `sample`; final subclasses."""

    #: the extra that installs it; empty where the core holds it
    extra: ClassVar[str] = "samples"

    def card(self) -> DataCard:
        """What is known before it is opened; imports nothing heavy."""
        raise TypeError(f"{type(self).__name__} has no card")

    def fetch(self) -> Path:
        """Get it onto this machine, where it does not come with a package; gives its folder.

        Raises:
            UsageError: it comes with a package.
            LoadError: it cannot be had.
        """
        raise UsageError(
            f"{self.part_name} comes with the package, there is nothing to fetch",
            where="assay data",
            mend=f"pip install 'assay[{self.extra}]'" if self.extra else "leave out --fetch",
        )

    def load(self) -> Source:
        """Open it.

        Raises:
            LoadError: the package that holds it is missing, of another version, or damaged.
        """
        raise TypeError(f"{type(self).__name__} holds nothing")
