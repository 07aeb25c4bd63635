"""Fatty liver and its controls: did the person die within five years?"""

from __future__ import annotations

from assay.claims.context import DataCard
from assay.data.samples._kinds import kinds
from assay.data.samples._rdatasets import item
from assay.data.samples._survival import died_within
from assay.data.schema import Override
from assay.data.source import Sample, Source
from assay.registry import register


@register("sample", "nafld1")
class NAFLD1(Sample):
    """10,679 people, 7% dead in five years, 7,552 missing cells; `male` is sensitive.

    Allen et al. 2018, from the R package survival. `case.id` says who is a patient and who was
    matched to whom and is dropped; 6,870 of 17,549 people were followed for less than five years
    and are left out.
    """

    def card(self) -> DataCard:
        """See `Sample.card`."""
        return DataCard(
            name="nafld1",
            rows=10679,
            label="died",
            classes=2,
            sensitive=("male",),
            license="LGPL-2+ (R package survival)",
        )

    def load(self) -> Source:
        """See `Sample.load`."""
        return Source(
            table=died_within(item("survival/nafld1"), "futime", "status", "died"),
            columns={
                **kinds("died", numeric=("age", "weight", "height", "bmi"), drop=("case.id",)),
                "id": Override(kind="categorical", role="id"),
                "male": Override(kind="boolean", sensitive=True),
            },
            positive="yes",
        )
