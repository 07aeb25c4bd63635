"""What every audit is: a frozen config that measures a finished model and states claims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from assay.claims import Capabilities, Claim, PlanContext, Read
from assay.claims.claim import Status
from assay.config import Config

if TYPE_CHECKING:
    from assay.models.model import Model


class Audit(Config):
    """One family of measurements, registered with `@register("audit", name)`; final subclasses.

    An audit never changes the model: it reads data for claims and the report only.
    """

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the conformance test."""
        return [cls()]

    def adds(self, context: PlanContext) -> tuple[str, ...]:
        """Kinds of claim (patterns) that it measures."""
        return ()

    def reads(self, context: PlanContext) -> tuple[Read, ...]:
        """What it reads."""
        return ()

    def capabilities(self, context: PlanContext) -> Capabilities:
        """What it needs of model, data and task."""
        return Capabilities()

    def estimate_seconds(self, context: PlanContext) -> float:
        """Wall time, roughly."""
        return 0.0

    def retrains(self) -> bool:
        """Whether measuring needs `context.retrain` (models trained anew on parts of the data)."""
        return False

    def measure(self, model: Model, context: Any) -> None:
        """Measure; hand claims to `context.claim` and pictures' data to `context.keep`.

        `context` is a `assay.training.context.RunContext`.
        """
        raise TypeError(f"{type(self).__name__} measures nothing")

    def agrees(self, claim: Claim, again: Claim) -> Status | None:
        """Whether a claim and its new measurement agree; None leaves it to the default rule."""
        return None


def keep(context: Any, name: str, value: Any) -> None:
    """Keep evidence under a name that is still free (`quality`, `quality-2`, ...)."""
    free, count = name, 1
    while free in context.evidence:
        count += 1
        free = f"{name}-{count}"
    context.keep(free, value)
