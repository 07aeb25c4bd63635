"""Low-rank adapters move, the network stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field

from assay.claims import Capabilities, PlanContext
from assay.config import build_part
from assay.errors import UsageError
from assay.registry import register
from assay.training.parameters._names import head_names, last_blocks, within
from assay.training.parts import Parameters

if TYPE_CHECKING:
    from assay.models.model import Model


@register("parameters", "lora")
class Lora(Parameters):
    """Low-rank adapters and the head move (Hu et al. 2021, arXiv 2106.09685).

    Adds the structure `lora`; a model that has these adapters already trains them further.

    Attributes:
        rank: r, >= 1.
        alpha: the update is scaled by `alpha / rank`.
        targets: ends of names of linear layers, or globs; `auto` takes the query and value
            projections of a transformer, else all linear layers below the head.
        blocks: adapters on the last so many blocks only; None for all.
        dropout: rate of dropout on the input of A, in [0, 1).
        head: whether the head moves too.
    """

    shorthand: ClassVar[str | None] = "rank"
    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    targets: tuple[str, ...] | str = "auto"
    blocks: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    head: bool = True

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls(rank=2, alpha=4)]

    def capabilities(self, context: PlanContext) -> Capabilities:
        """Adapters go on linear layers below the head, unless others are named."""
        return Capabilities(
            needs=frozenset({"linear_layers"} if self.targets == "auto" else ()),
            why={"linear_layers": "adapters go on linear layers, and the trunk has some"},
            mend={"linear_layers": "use parameters: full"},
        )

    def describe(self) -> str:
        """In words, for the plan."""
        where = f" on the last {self.blocks} blocks" if self.blocks else ""
        return f"LoRA adapters of rank {self.rank}{where}" + (" and the head" if self.head else "")

    def structures(self, context: PlanContext) -> tuple[str, ...]:
        """`lora`, unless the network has it."""
        return () if "lora" in context.structures else ("lora",)

    def targets_in(self, model: Model) -> list[str]:
        """Names of the layers that the adapters go on.

        Raises:
            UsageError: nothing fits.
        """
        from assay.models.structures._lora import find_targets

        blocks = last_blocks(model, self.blocks, "parameters.lora.blocks") if self.blocks else ()
        return find_targets(model.network, self.targets, blocks)

    def prepare(self, model: Model, seed: int) -> Model:
        """The model with adapters on the targets; itself, where it has them.

        Raises:
            UsageError: nothing fits, or other adapters are there.
        """
        settings = {
            "rank": self.rank,
            "alpha": self.alpha,
            "targets": tuple(self.targets_in(model)),
            "dropout": self.dropout,
        }
        structure = build_part("structure", {"lora": settings}, "parameters.lora")
        if structure in model.structures:
            return model
        if any(s.part_name == structure.part_name for s in model.structures):
            raise UsageError(
                "the model has other adapters already",
                where="parameters.lora",
                mend="train them further with the settings they have, or merge them first",
            )
        return model.with_structure(structure, seed=seed)

    def select(self, model: Model) -> list[str]:
        """Names of A and B of the targets, and under `head.`, in the network's order."""
        targets = tuple(self.targets_in(model))
        head = set(head_names(model, "parameters.lora.head")) if self.head else set()
        names = [name for name, _ in model.network.named_parameters()]
        adapters = {n for n in names if within(n, targets) and ".lora_" in n}
        return [name for name in names if name in adapters or name in head]
