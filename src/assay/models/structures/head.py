"""The head: pooling, dropout and a linear map from the trunk's width to the task's outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from assay.models.structure import Structure
from assay.registry import register

if TYPE_CHECKING:
    import torch


@register("structure", "head")
class Head(Structure):
    """Put a linear head on a trunk.

    Attributes:
        outputs: K, number of outputs.
        width: H, the trunk's output width.
        pooling: how token states become one vector.
        dropout: rate before the head.
    """

    outputs: int = Field(ge=1)
    width: int = Field(ge=1)
    pooling: Literal["mean", "cls", "none"] = "none"
    dropout: float = Field(default=0.0, ge=0, lt=1)

    def apply(self, network: torch.nn.Module) -> torch.nn.Module:
        """Wrap the trunk; parameters keep their names under `backbone.`."""
        from assay.models.headed import Headed

        return Headed(network, self.pooling, self.width, self.outputs, self.dropout)
