"""Handwritten digits of 8 by 8 pixels: which one is it?"""

from __future__ import annotations

from typing import ClassVar

from assay.claims.context import DataCard
from assay.data.schema import Override
from assay.data.source import Sample, Source
from assay.registry import register


@register("sample", "digits")
class Digits(Sample):
    """1,797 digits as 64 columns of grey values 0 to 16 (declared, so that none is measured).

    The test part of the UCI set of Alpaydin and Kaynak (1998), from scikit-learn. Column `p23` is
    the pixel in row 2, column 3.
    """

    extra: ClassVar[str] = ""

    def card(self) -> DataCard:
        """See `Sample.card`."""
        return DataCard(
            name="digits", rows=1797, label="digit", classes=10, license="CC BY 4.0 (UCI)"
        )

    def load(self) -> Source:
        """See `Sample.load`."""
        import pyarrow as pa
        from sklearn.datasets import load_digits

        raw = load_digits()
        names = [f"p{i}{j}" for i in range(8) for j in range(8)]
        grey = Override(kind="numeric", bounds=(0.0, 16.0), missing=False)
        return Source(
            table=pa.table(
                {
                    **{name: raw.data[:, i] for i, name in enumerate(names)},
                    "digit": raw.target.astype("int64"),
                }
            ),
            columns={
                **dict.fromkeys(names, grey),
                "digit": Override(kind="categorical", role="label"),
            },
        )
