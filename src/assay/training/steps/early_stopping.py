"""Stopping when the validation loss no longer falls."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field

from assay.claims import Capabilities, PlanContext
from assay.registry import register
from assay.training.parts import Setting


@register("step", "early_stopping")
class EarlyStopping(Setting):
    """Stop when the validation loss has not improved for `patience` epochs (Prechelt 1998). An
    improvement is a loss below `best - min_delta`.

    Its readings of the validation split influence a choice. The weights kept are those with the
    lowest loss.

    Attributes:
        patience: epochs without improvement after which training stops, >= 1.
        min_delta: improvement that counts, >= 0.
        metric: what is followed.
    """

    shorthand: ClassVar[str | None] = "patience"
    patience: int = Field(default=3, ge=1)
    min_delta: float = Field(default=0.0, ge=0)
    metric: Literal["loss"] = "loss"

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls(patience=1)]

    def capabilities(self, context: PlanContext) -> Capabilities:
        """Needs validation rows."""
        return Capabilities(
            needs=frozenset({"valid_split"}),
            why={"valid_split": "there is a validation loss to watch"},
            mend={"valid_split": "give data.splits.valid a share, or leave out early_stopping"},
        )

    @property
    def observes(self) -> bool:
        """Validation losses decide when training ends."""
        return True
