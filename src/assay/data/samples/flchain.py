"""Free light chains in blood: did the person die within five years?"""

from __future__ import annotations

from assay.claims.context import DataCard
from assay.data.samples._kinds import kinds
from assay.data.samples._rdatasets import item
from assay.data.samples._survival import died_within
from assay.data.schema import Override
from assay.data.source import Sample, Source
from assay.registry import register


@register("sample", "flchain")
class FLChain(Sample):
    """7,679 residents of Olmsted County over 50, 12% dead in five years; `sex` is sensitive.

    Dispenzieri et al. 2012, from the R package survival. `chapter` (of the cause of death) tells
    the label and is dropped; 195 of 7,874 people were lost before five years and are left out;
    `creatinine` is missing for a sixth.
    """

    def card(self) -> DataCard:
        """See `Sample.card`."""
        return DataCard(
            name="flchain",
            rows=7679,
            label="died",
            classes=2,
            sensitive=("sex",),
            license="LGPL-2+ (R package survival)",
        )

    def load(self) -> Source:
        """See `Sample.load`."""
        return Source(
            table=died_within(item("survival/flchain"), "futime", "death", "died"),
            columns={
                **kinds(
                    "died",
                    numeric=("age", "sample.yr", "kappa", "lambda", "flc.grp", "creatinine"),
                    boolean=("mgus",),
                    drop=("chapter",),
                ),
                "sex": Override(kind="categorical", sensitive=True),
            },
            positive="yes",
        )
