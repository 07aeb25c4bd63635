"""What every stage is: a frozen config that declares its effects and returns a new model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from assay.claims import Capabilities, Claim, Effects, Estimate, PlanContext
from assay.claims.claim import Status
from assay.config import Config

if TYPE_CHECKING:
    from assay.models.model import Model
    from assay.training.context import RunContext


class Stage(Config):
    """One step of a recipe. Subclasses are final and registered with `@register("stage", name)`.

    `effects`, `capabilities`, `parts` and `estimate` are static: they see configs and cards only,
    import nothing heavy, and are what `assay plan` shows.
    """

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the conformance test: what a stage declares must be true."""
        return [cls()]

    def effects(self, context: PlanContext) -> Effects:
        """What the stage reads, adds and keeps. What it does not keep is void."""
        raise TypeError(f"{type(self).__name__} declares no effects")

    def capabilities(self, context: PlanContext) -> Capabilities:
        """What the stage itself needs, gives and breaks."""
        return Capabilities()

    def parts(self) -> list[tuple[str, Any]]:
        """(name as the user wrote it, part) of every part the stage is made of."""
        return []

    def structures(self) -> tuple[Any, ...]:
        """Structures that the stage itself puts into the network, whatever its weights are."""
        return ()

    def builds(self) -> Any:
        """The `ModelConfig` of the network that takes the place of the one before, if one does."""
        return None

    def lasting(self, steps: int, rows: int) -> Self:
        """The stage for so few training rows: one that trains takes at least so many optimiser
        steps and draws no curves; any other is itself.
        """
        return self

    def charges(self, units: int, data: str, unit: str, noise: float | None) -> list[Any]:
        """Private events (`assay.privacy.events.Event`) that the stage will cause at most.

        Args:
            units: privacy units among the training rows.
            data: keyed digest of the data.
            unit: the privacy unit.
            noise: noise multiplier of a sum over private rows; None where sums are plain.
        """
        return []

    def estimate(self, context: PlanContext) -> Estimate:
        """What the stage will cost, roughly."""
        return Estimate()

    def run(self, model: Model, context: RunContext) -> Model:
        """Do it. `model` is not changed: a new one is returned.

        Claims are handed to `context.claim`; the runner appends them and the record of this stage
        to the passport of the returned model.
        """
        raise TypeError(f"{type(self).__name__} does not run")

    def measure(self, model: Model, context: RunContext) -> None:
        """Measure again, on a finished model, what this stage claimed when it ran.

        Hands claims to `context.claim`, as `run` did. A stage that claims nothing does nothing.
        """

    def agrees(self, claim: Claim, again: Claim) -> Status:
        """Whether a claim and its new measurement say the same.

        By default numbers must agree to 1e-6 relative, anything else exactly.
        """
        return "holds" if close(claim.value, again.value) else "fails"


def close(a: Any, b: Any, relative: float = 1e-6, absolute: float = 1e-9) -> bool:
    """Whether two claimed values are equal, numbers up to a tolerance.

    >>> close(0.84, 0.8400000001), close(0.84, 0.841), close("yes", "yes")
    (True, False, True)
    """
    if (
        isinstance(a, bool)
        or isinstance(b, bool)
        or not (isinstance(a, (int, float)) and isinstance(b, (int, float)))
    ):
        return bool(a == b)
    return abs(a - b) <= max(absolute, relative * max(abs(a), abs(b)))
