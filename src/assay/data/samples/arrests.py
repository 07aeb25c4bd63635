"""Arrests for marijuana in Toronto: was the person kept instead of released?"""

from __future__ import annotations

from assay.claims.context import DataCard
from assay.data.samples._kinds import kinds
from assay.data.samples._rdatasets import item
from assay.data.schema import Override
from assay.data.source import Sample, Source
from assay.registry import register


@register("sample", "arrests")
class Arrests(Sample):
    """5,226 arrests, 17% not released with a summons (the positive class); `colour` is sensitive.

    From the R package carData (Friendly; Toronto Star 2002). `colour` is kept for audits and is no
    feature. Because 83% are released, accuracy hides all: judge at a fixed positive rate.
    """

    def card(self) -> DataCard:
        """See `Sample.card`."""
        return DataCard(
            name="arrests",
            rows=5226,
            label="released",
            classes=2,
            sensitive=("colour",),
            license="GPL-2+ (R package carData)",
        )

    def load(self) -> Source:
        """See `Sample.load`."""
        return Source(
            table=item("carData/Arrests"),
            columns={
                **kinds(
                    "released",
                    numeric=("year", "age", "checks"),
                    categorical=("sex",),
                    boolean=("employed", "citizen"),
                ),
                "colour": Override(kind="categorical", role="sensitive", sensitive=True),
            },
            positive="No",
        )
