"""Only the head moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.claims import Capabilities, PlanContext
from assay.registry import register
from assay.training.parameters._names import head_names
from assay.training.parts import Parameters

if TYPE_CHECKING:
    from assay.models.model import Model


@register("parameters", "head")
class Head(Parameters):
    """Only the head moves: a linear probe of the network below it, all of which is a frozen
    prefix.
    """

    def capabilities(self, context: PlanContext) -> Capabilities:
        """Nothing below the head moves."""
        why = {"moving_trunk": "moves the head alone"}
        mend = {"moving_trunk": "let more move, with 'parameters: full' or '{last: 1}'"}
        return Capabilities(breaks=frozenset({"moving_trunk"}), why=why, mend=mend)

    def describe(self) -> str:
        """In words, for the plan."""
        return "the head"

    def select(self, model: Model) -> list[str]:
        """Names under `head.`.

        Raises:
            UsageError: the network has no head.
        """
        return head_names(model, "parameters.head")
