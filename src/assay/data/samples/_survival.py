"""From survival times to a class: did the person die within five years?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

#: five years in days
HORIZON = 1826


def died_within(table: pa.Table, time: str, died: str, label: str) -> pa.Table:
    """Add the label, and leave out whom it is unknown for.

    Who was last seen alive before the horizon may have died within it: the label is unknown, and
    counting these people as survivors would teach that short follow-up is health. They are left
    out, which makes deaths somewhat more frequent than they were. A death after the horizon is a
    survival of it.

    Args:
        table: one row a person.
        time: column of days until death or until last seen.
        died: column that is 1 where `time` is that of death.
        label: the column to add, `yes` or `no`; `time` and `died` are removed.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    death = pc.equal(table.column(died), 1)
    early = pc.less_equal(table.column(time), HORIZON)
    known = pc.or_(death, pc.greater_equal(table.column(time), HORIZON))
    words = pc.if_else(pc.and_(death, early), pa.scalar("yes"), pa.scalar("no"))
    return table.drop_columns([time, died]).append_column(label, words).filter(known)
