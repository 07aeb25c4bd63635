"""Low-rank adapters on linear layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field

from assay.models.structure import Structure
from assay.registry import register

if TYPE_CHECKING:
    import torch

    from assay.models.model import Model


@register("structure", "lora")
class Lora(Structure):
    """Each target layer computes `W x + b + (alpha / rank) B A x` (Hu et al. 2021, arXiv
    2106.09685); A starts kaiming-uniform and B at zero, so that at first nothing changes.

    Attributes:
        rank: r, rows of A and columns of B, >= 1.
        alpha: the update is scaled by `alpha / rank`.
        targets: names of linear layers; ends of names and globs also do; `auto` takes the query
            and value projections, or where there are none all linear layers below the head.
        dropout: rate of dropout on the input of A while training, in [0, 1).
    """

    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    targets: tuple[str, ...] | str = "auto"
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls(rank=2, alpha=4)]

    def apply(self, network: torch.nn.Module) -> torch.nn.Module:
        """Replace the targets in place; their weights stay the same tensors.

        A is drawn from torch's generator, whose state is left as it was found.

        Raises:
            UsageError: no layer fits, or one has an adapter already.
        """
        import torch

        from assay.errors import UsageError
        from assay.models.structures._lora import LoRALinear, attach, find_targets, replace_layers

        names = find_targets(network, self.targets, ())
        new: dict[str, torch.nn.Module] = {}
        with torch.random.fork_rng(devices=[]):
            for name in names:
                layer = network.get_submodule(name)
                if isinstance(layer, LoRALinear):
                    raise UsageError(
                        f"{name} has an adapter already",
                        where="lora.targets",
                        mend="merge it first, or choose other layers",
                    )
                assert isinstance(layer, torch.nn.Linear)
                new[name] = attach(layer, self.rank, self.alpha, self.dropout)
        return replace_layers(network, new)


def merged_model(model: Model) -> Model:
    """A copy of the model with all adapters merged into the weights.

    The structures `lora` go, and from masks the names of the weights that were merged.
    """
    from dataclasses import replace

    from assay.models.structures._lora import merge
    from assay.models.structures.mask import without_names

    network, taken = merge(model.network)
    dense = {f"{name}.weight" for name in taken}
    kept = [s for s in model.structures if s.part_name != Lora.part_name]
    return replace(
        model,
        network=network,
        structures=without_names(kept, dense, network),
        extra=dict(model.extra),
    )
