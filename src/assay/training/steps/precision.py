"""Number format and memory layout of training."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from assay.claims import Capabilities, PlanContext
from assay.registry import register
from assay.training.parts import Setting


@register("step", "precision")
class Precision(Setting):
    """In which numbers forward and backward passes are computed, and how inputs lie in memory.

    Parameters, gradients and optimiser state stay float32 (mixed precision: Micikevicius et al.
    2018, arXiv 1710.03740; bfloat16 needs no loss scaling: Kalamkar et al. 2019, arXiv
    1905.12322). `auto` lets the loop time a few steps and keep the fastest; it falls back to fp32
    where another part needs `full_precision`.

    Attributes:
        mode: `auto`, `fp32`, or `bf16` (autocast).
        memory_format: `auto`, `contiguous` or `channels_last` (convolutions only).
    """

    shorthand: ClassVar[str | None] = "mode"
    mode: Literal["auto", "fp32", "bf16"] = "auto"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls(mode="fp32"), cls(mode="bf16")]

    def capabilities(self, context: PlanContext) -> Capabilities:
        """bf16 takes float32 gradients away; `auto` yields to whoever needs them."""
        if self.mode != "bf16":
            return Capabilities()
        return Capabilities(
            breaks=frozenset({"full_precision"}),
            why={"full_precision": "computes gradients in bfloat16"},
            mend={"full_precision": "set precision: fp32"},
        )
