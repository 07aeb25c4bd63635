"""Car crashes in the United States: did the occupant die?"""

from __future__ import annotations

from assay.claims.context import DataCard
from assay.data.samples._kinds import kinds
from assay.data.samples._rdatasets import item
from assay.data.schema import Override
from assay.data.source import Sample, Source
from assay.registry import register


@register("sample", "nass_cds")
class NASSCDS(Sample):
    """26,217 occupants of crashed cars, 5% dead (the positive class); `sex` is sensitive.

    Crashworthiness data of 1997 to 2002 (Meyer and Finney 2005), from the R package DAAG.
    `injSeverity` tells the label and `weight` is that of the survey: both are dropped. `crash`,
    made of the year and the first two parts of `caseid`, keeps the occupants of all cars of one
    crash in one split.
    """

    def card(self) -> DataCard:
        """See `Sample.card`."""
        return DataCard(
            name="nass_cds",
            rows=26217,
            label="dead",
            classes=2,
            sensitive=("sex",),
            license="GPL-3 (R package DAAG)",
        )

    def load(self) -> Source:
        """See `Sample.load`."""
        import pyarrow as pa
        import pyarrow.compute as pc

        table = item("DAAG/nassCDS")
        case = pc.replace_substring_regex(table.column("caseid"), r":[^:]*$", "")
        crash = pc.binary_join_element_wise(table.column("yearacc").cast(pa.string()), case, ":")
        return Source(
            table=table.append_column("crash", crash),
            columns={
                **kinds(
                    "dead",
                    numeric=("ageOFocc", "yearacc", "yearVeh"),
                    categorical=("dvcat", "airbag", "seatbelt", "abcat", "occRole"),
                    boolean=("frontal", "deploy"),
                    drop=("injSeverity", "weight", "caseid"),
                ),
                "sex": Override(kind="categorical", sensitive=True),
                "crash": Override(kind="categorical", role="group"),
            },
            positive="dead",
        )
