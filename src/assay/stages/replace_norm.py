"""The stage `replace_norm`: group norms in the place of batch norms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from assay.claims import Effects, Estimate, PlanContext
from assay.registry import register
from assay.stages.base import Stage

if TYPE_CHECKING:
    from assay.models.model import Model
    from assay.training.context import RunContext


@register("stage", "replace_norm")
class ReplaceNormStage(Stage):
    """Make each batch norm a group norm, which never mixes rows: private training needs that.

    The network computes another function from then on, so train it afterwards. Scales and shifts
    are carried over; running statistics are left behind. A network without batch norms stays what
    it is.

    Attributes:
        groups: groups a norm.
    """

    groups: int = Field(default=8, ge=1)

    def effects(self, context: PlanContext) -> Effects:
        """See the class: behaviour is void, what is historical is kept."""
        return Effects(
            keeps=("privacy.epsilon", "federation.*", "lineage.*", "size.parameters"),
            structure_adds=("replace_norm",),
        )

    def structures(self) -> tuple[Any, ...]:
        """See `Stage.structures`."""
        from assay.models.structures.replace_norm import ReplaceNorm

        return (ReplaceNorm(groups=self.groups),)

    def estimate(self, context: PlanContext) -> Estimate:
        """One copy of the network."""
        parameters = context.model.parameters or 0
        return Estimate(seconds=parameters * 1e-8, bytes=4 * parameters, basis="one copy")

    def run(self, model: Model, context: RunContext) -> Model:
        """See the class."""
        from assay.models.structures.replace_norm import replaced

        return replaced(model, self.groups).without_files()
