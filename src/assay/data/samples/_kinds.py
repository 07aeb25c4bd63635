"""Short ways to say what the columns of a sample are."""

from __future__ import annotations

from assay.data.schema import Override


def kinds(
    label: str,
    numeric: tuple[str, ...] = (),
    categorical: tuple[str, ...] = (),
    boolean: tuple[str, ...] = (),
    drop: tuple[str, ...] = (),
) -> dict[str, Override]:
    """What is known of the columns of a table with classes, so that nothing is inferred."""
    return {
        label: Override(kind="categorical", role="label"),
        **dict.fromkeys(numeric, Override(kind="numeric")),
        **dict.fromkeys(categorical, Override(kind="categorical")),
        **dict.fromkeys(boolean, Override(kind="boolean")),
        **dict.fromkeys(drop, Override(role="drop")),
    }
