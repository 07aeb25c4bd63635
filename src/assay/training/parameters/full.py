"""Every parameter moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.registry import register
from assay.training.parts import Parameters

if TYPE_CHECKING:
    from assay.models.model import Model


@register("parameters", "full")
class Full(Parameters):
    """Every parameter of the network moves."""

    def describe(self) -> str:
        """In words, for the plan."""
        return "all parameters"

    def select(self, model: Model) -> list[str]:
        """All names, in the network's order."""
        return [name for name, _ in model.network.named_parameters()]
