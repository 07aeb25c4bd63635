"""Another dropout rate for the stage."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from assay.registry import register
from assay.training.parts import Setting


@register("step", "dropout")
class Dropout(Setting):
    """Give every dropout module of the network this rate during the stage (Srivastava et al.
    2014, JMLR 15). Dropout inside adapters is set by `parameters: lora` and stays.

    Attributes:
        rate: share of values set to zero, in [0, 1).
    """

    shorthand: ClassVar[str | None] = "rate"
    rate: float = Field(default=0.1, ge=0, lt=1)
