"""A multilayer perceptron over real features."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from assay.models.architecture import Architecture
from assay.registry import register

if TYPE_CHECKING:
    import torch


@register("architecture", "mlp")
class MLP(Architecture):
    """Linear layers with an activation and dropout between; the task's head comes on top.

    Attributes:
        hidden: width of each hidden layer; none gives a linear model.
        activation: the non-linearity.
        dropout: rate after each activation.
        inputs: number of features (found from the data).
    """

    modality = "tabular"
    inputs_from_data = True

    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (64, 32)
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    dropout: float = Field(default=0.0, ge=0, lt=1)
    inputs: int | None = Field(default=None, ge=1)

    def build(self) -> torch.nn.Module:
        """The trunk: `features` `[N, F]` -> `[N, H]`."""
        from assay.models.trunks import MLPTrunk

        return MLPTrunk(self.inputs or 1, self.hidden, self.activation, self.dropout)

    def width(self) -> int:
        """H: the last hidden width, or the number of features."""
        return self.hidden[-1] if self.hidden else (self.inputs or 1)

    def parameter_count(self) -> int | None:
        """Number of parameters of the trunk, if the number of features is known."""
        if self.inputs is None:
            return None
        sizes = (self.inputs, *self.hidden)
        return sum(a * b + b for a, b in pairwise(sizes))

    def block_count(self) -> int | None:
        """Number of hidden layers."""
        return len(self.hidden)
