"""An isotonic map of probabilities after the head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from assay.models.structure import Structure
from assay.registry import register

if TYPE_CHECKING:
    import torch


@register("structure", "isotonic")
class IsotonicCalibration(Structure):
    """Map each class's probability by a rising function, one class against the rest (Zadrozny and
    Elkan 2002). The knots are buffers: no training moves them.

    Attributes:
        classes: K.
        knots: points of each map, >= 2.
    """

    classes: int = Field(default=2, ge=2)
    knots: int = Field(default=2, ge=2)

    def apply(self, network: torch.nn.Module) -> torch.nn.Module:
        """Put the layer after the head, in place; an older calibration goes."""
        from assay.models.calibration import Isotonic
        from assay.models.headed import after_head

        return after_head(network, Isotonic(self.classes, self.knots))
