"""Handwritten digits of 8 by 8 pixels, as images."""

from __future__ import annotations

from typing import ClassVar

from assay.claims.context import DataCard
from assay.data.schema import Override
from assay.data.source import Sample, Source
from assay.registry import register


@register("sample", "digit-images")
class DigitImages(Sample):
    """1,797 grey images of 8 by 8 pixels; `digits` holds the same as a table.

    The test part of the UCI set of Alpaydin and Kaynak (1998), from scikit-learn; its grey values
    0 to 16 become 0 to 255.
    """

    extra: ClassVar[str] = ""

    def card(self) -> DataCard:
        """See `Sample.card`."""
        return DataCard(
            name="digit-images",
            modality="image",
            rows=1797,
            label="digit",
            classes=10,
            license="CC BY 4.0 (UCI)",
        )

    def load(self) -> Source:
        """See `Sample.load`."""
        import numpy as np
        import pyarrow as pa
        from sklearn.datasets import load_digits

        from assay.data.images import raw_column

        raw = load_digits()
        return Source(
            table=pa.table(
                {
                    "image": raw_column((raw.images * 255 / 16).round().astype(np.uint8)),
                    "digit": raw.target.astype("int64"),
                }
            ),
            columns={
                "image": Override(kind="image", role="feature"),
                "digit": Override(kind="categorical", role="label"),
            },
        )
