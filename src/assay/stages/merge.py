"""The stage `merge`: adapters become part of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.claims import Capabilities, Effects, Estimate, PlanContext
from assay.errors import UsageError
from assay.registry import register
from assay.stages.base import Stage

if TYPE_CHECKING:
    from assay.models.model import Model
    from assay.training.context import RunContext

#: claims of how the weights came about; what is computed from weights alone spends no privacy
_HISTORY = ("privacy.epsilon", "federation.*", "transfer.*", "lineage.*")


@register("stage", "merge")
class MergeStage(Stage):
    """Add each low-rank update to its weight and take the adapters out.

    The function that the network computes is the same but for rounding, and rounding can flip a
    decision: nothing was measured, so every claim about behaviour is void until an audit measures
    it again. Size changes. Sparsity is void, and masks are taken out with the adapters: a dense
    update fills the zeros of the weights it is added to. What is historical (privacy, federation,
    transfer) is kept.
    """

    def effects(self, context: PlanContext) -> Effects:
        """See the class."""
        gone = tuple(s for s in ("lora", "mask") if s in context.structures)
        notes = ("masks go: zeros are no longer kept",) if "mask" in gone else ()
        return Effects(keeps=_HISTORY, structure_removes=gone, notes=notes)

    def capabilities(self, context: PlanContext) -> Capabilities:
        """Adapters to merge."""
        return Capabilities(
            needs=frozenset({"adapters"}),
            gives=frozenset({"adapters"} if "lora" in context.structures else ()),
            why={"adapters": "there are adapters to merge"},
            mend={"adapters": "leave it out, or put it after a finetune with 'parameters: lora'"},
        )

    def estimate(self, context: PlanContext) -> Estimate:
        """One copy of the network."""
        parameters = context.model.parameters or 0
        return Estimate(seconds=parameters * 1e-8, bytes=4 * parameters, basis="one copy")

    def run(self, model: Model, context: RunContext) -> Model:
        """See the class.

        Raises:
            UsageError: the model has no adapters.
        """
        from dataclasses import replace

        from assay.models.structures.lora import merged_model

        if not any(s.part_name == "lora" for s in model.structures):
            raise UsageError(
                "the model has no adapters to merge",
                where=f"stage {context.stage} (merge)",
                mend="leave it out, or put it after a finetune with 'parameters: lora'",
            )
        merged = merged_model(model).without_files()
        for module in merged.network.modules():
            for name in [n for n in module._buffers if n.endswith("__mask")]:
                del module._buffers[name]
                module._non_persistent_buffers_set.discard(name)
        return replace(
            merged, structures=tuple(s for s in merged.structures if s.part_name != "mask")
        )
