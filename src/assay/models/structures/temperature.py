"""A temperature after the head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.models.structure import Structure
from assay.registry import register

if TYPE_CHECKING:
    import torch


@register("structure", "temperature")
class TemperatureScaling(Structure):
    """Divide the head's logits by one number (Guo et al. 2017, arXiv 1706.04599). It is a buffer:
    no training moves it.
    """

    def apply(self, network: torch.nn.Module) -> torch.nn.Module:
        """Put the layer after the head, in place; an older calibration goes."""
        from assay.models.calibration import Temperature
        from assay.models.headed import after_head

        return after_head(network, Temperature())
