"""Food reviews: is the score great?"""

from __future__ import annotations

from assay.claims.context import DataCard
from assay.data.samples._rdatasets import item
from assay.data.schema import Override
from assay.data.source import Sample, Source
from assay.registry import register


@register("sample", "reviews")
class Reviews(Sample):
    """5,000 Amazon fine-food reviews, `great` (5 stars) or `other`, divided 4,000 / 1,000.

    From the R package modeldata; McAuley and Leskovec 2013 (arXiv 1303.4402). The product code is
    different in every row, so that it names the row and is no text to learn from. Seven texts
    stand in both parts: the division is kept as it was given, so that results compare.
    """

    def card(self) -> DataCard:
        """See `Sample.card`."""
        return DataCard(
            name="reviews",
            modality="text",
            splits=("train", "test"),
            rows=5000,
            label="score",
            classes=2,
            license="MIT (R package modeldata)",
        )

    def load(self) -> Source:
        """See `Sample.load`."""
        import numpy as np
        import pyarrow as pa

        train, test = item("modeldata/training_data"), item("modeldata/testing_data")
        return Source(
            table=pa.concat_tables([train, test]),
            columns={
                "product": Override(kind="categorical", role="id"),
                "review": Override(kind="text", role="feature"),
                "score": Override(kind="categorical", role="label"),
            },
            splits={
                "train": np.arange(len(train), dtype=np.int64),
                "test": np.arange(len(train), len(train) + len(test), dtype=np.int64),
            },
            positive="great",
        )
