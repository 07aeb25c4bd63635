"""Biases, norms and the head move."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.registry import register
from assay.training.parameters._names import head_names
from assay.training.parts import Parameters

if TYPE_CHECKING:
    from assay.models.model import Model


@register("parameters", "bias_norm")
class BiasNorm(Parameters):
    """Biases, all parameters of norms, and the head move (BitFit: Ben Zaken et al. 2022, arXiv
    2106.10199; norms: Frankle et al. 2021, arXiv 2003.00152).
    """

    def describe(self) -> str:
        """In words, for the plan."""
        return "biases, norms and the head"

    def select(self, model: Model) -> list[str]:
        """Names in the network's order.

        Raises:
            UsageError: the network has no head.
        """
        chosen = set(head_names(model, "parameters.bias_norm"))
        for name, module in model.network.named_modules():
            norm = "Norm" in type(module).__name__
            for parameter, _ in module.named_parameters(recurse=False):
                if norm or parameter == "bias":
                    chosen.add(f"{name}.{parameter}" if name else parameter)
        return [name for name, _ in model.network.named_parameters() if name in chosen]
