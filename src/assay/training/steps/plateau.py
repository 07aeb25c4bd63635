"""A schedule that follows the validation loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import Field

from assay.claims import Capabilities, PlanContext
from assay.registry import register
from assay.training.parts import Schedule
from assay.training.steps._warmup import rising, warmup_steps


@register("step", "plateau")
class Plateau(Schedule):
    """Lowers the rate by `gamma` whenever the validation loss has not improved for more than
    `patience` epochs. An improvement is a loss below `best * (1 - threshold)`.

    Its readings of the validation split influence the weights. State (empty at first): `scale`,
    the factor so far; `best`, the best loss; `bad`, epochs without improvement.

    Attributes:
        gamma: factor on the rate, in (0, 1).
        patience: epochs without improvement that are borne, >= 0.
        threshold: relative improvement that counts, in [0, 1).
        floor: smallest factor, in [0, 1].
    """

    shorthand: ClassVar[str | None] = "patience"
    gamma: float = Field(default=0.1, gt=0, lt=1)
    patience: int = Field(default=3, ge=0)
    threshold: float = Field(default=1e-4, ge=0, lt=1)
    floor: float = Field(default=0.0, ge=0, le=1)

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls(patience=0, gamma=0.5)]

    def capabilities(self, context: PlanContext) -> Capabilities:
        """Needs validation rows."""
        return Capabilities(
            needs=frozenset({"valid_split"}),
            why={"valid_split": "there is a validation loss to follow"},
            mend={"valid_split": "give data.splits.valid a share, or use another schedule"},
        )

    @property
    def observes(self) -> bool:
        """Validation losses steer it."""
        return True

    def factor(self, step: int, total: int, state: Mapping[str, float]) -> float:
        """The scale reached so far, times the warm-up."""
        early = rising(step, warmup_steps(self.warmup, total))
        return state.get("scale", 1.0) * (1.0 if early is None else early)

    def observe(self, value: float, state: dict[str, float]) -> None:
        """Count epochs without improvement; lower the scale when there are too many."""
        # a loss that is not a number is never an improvement
        if value < state.get("best", math.inf) * (1 - self.threshold):
            state["best"], state["bad"] = value, 0.0
            return
        state["bad"] = state.get("bad", 0.0) + 1
        if state["bad"] > self.patience:
            state["scale"] = max(self.floor, state.get("scale", 1.0) * self.gamma)
            state["bad"] = 0.0
