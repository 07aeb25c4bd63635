"""The stage `audit`: measure the model and claim what was measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import model_validator

from assay import registry
from assay.audit.base import Audit
from assay.claims import Claim, Effects, Estimate, PlanContext, Read
from assay.claims.claim import Status
from assay.config import PartField
from assay.registry import register
from assay.stages.base import Stage, close

if TYPE_CHECKING:
    from assay.models.model import Model
    from assay.training.context import RunContext


@register("stage", "audit")
class AuditStage(Stage):
    """Measure the model as it is by now; the model does not change.

    Written `audit: quality` or `audit: {quality: {split: test}, efficiency: {}}`; bare `audit`
    measures quality.

    Attributes:
        audits: what to measure.
    """

    inline: ClassVar[str | None] = "audits"

    audits: Annotated[Any, PartField("audit", many=True, default="quality")]

    @model_validator(mode="after")
    def _audits_something(self) -> Self:
        if not self.audits:
            raise ValueError("an audit of nothing; name one, such as 'audit: quality'")
        return self

    @classmethod
    def examples(cls) -> list[Self]:
        """Each audit's."""
        known: list[Any] = list(registry.parts("audit").values())
        return [cls(audits=(audit,)) for part in known for audit in part.examples()]

    def effects(self, context: PlanContext) -> Effects:
        """All claims are kept: nothing is changed. Adds and reads what the audits do."""
        audits: tuple[Audit, ...] = self.audits
        return Effects(
            adds=tuple(dict.fromkeys(kind for a in audits for kind in a.adds(context))),
            keeps=("*",),
            reads=_distinct(r for a in audits for r in a.reads(context)),
        )

    def parts(self) -> list[tuple[str, Any]]:
        """The audits."""
        return [(audit.part_name, audit) for audit in self.audits]

    def estimate(self, context: PlanContext) -> Estimate:
        """The sum over the audits."""
        return Estimate(
            seconds=sum(audit.estimate_seconds(context) for audit in self.audits),
            basis="rows to predict and resamples to draw",
        )

    def run(self, model: Model, context: RunContext) -> Model:
        """Measure; gives back the same network."""
        for audit in self.audits:
            audit.measure(model, context)
        return model

    def measure(self, model: Model, context: RunContext) -> None:
        """Measure again.

        An audit that trains models anew is left out where none can be trained: its claims are
        then unverifiable.
        """
        from assay.audit.measures.said import forget

        forget()
        for audit in self.audits:
            if context.retrain is not None or not audit.retrains():
                audit.measure(model, context)

    def agrees(self, claim: Claim, again: Claim) -> Status:
        """As the audit that made the claim says; by default numbers to 1e-6."""
        for audit in self.audits:
            said: Status | None = audit.agrees(claim, again)
            if said is not None:
                return said
        return "holds" if close(claim.value, again.value) else "fails"


def _distinct(reads: Iterable[Read]) -> tuple[Read, ...]:
    """One reading that several audits declare alike is named once."""
    found: list[Read] = []
    for read in reads:
        if read not in found:
            found.append(read)
    return tuple(found)
