"""The last blocks and the head move."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from assay.registry import register
from assay.training.parameters._names import head_names, last_blocks, within
from assay.training.parts import Parameters

if TYPE_CHECKING:
    from assay.models.model import Model


@register("parameters", "last")
class Last(Parameters):
    """The last blocks in execution order and the head move (Yosinski et al. 2014, arXiv
    1411.1792); all below them is a frozen prefix. What stands between blocks and head (a pooler)
    stays as it is.

    Attributes:
        n: number of blocks, >= 1.
    """

    shorthand: ClassVar[str | None] = "n"
    n: int = Field(default=1, ge=1)

    def describe(self) -> str:
        """In words, for the plan."""
        return (
            f"the last {self.n} blocks and the head"
            if self.n > 1
            else "the last block and the head"
        )

    def select(self, model: Model) -> list[str]:
        """Names in the last `n` blocks and under `head.`, in the network's order.

        Raises:
            UsageError: the network has fewer blocks, or no head.
        """
        head = set(head_names(model, "parameters.last"))
        blocks = last_blocks(model, self.n, "parameters.last.n")
        names = [name for name, _ in model.network.named_parameters()]
        return [name for name in names if name in head or within(name, blocks)]
