"""Group norms in the place of batch norms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from assay.models.structure import Structure
from assay.registry import register

if TYPE_CHECKING:
    import torch

    from assay.models.model import Model


@register("structure", "replace_norm")
class ReplaceNorm(Structure):
    """Each batch norm becomes a group norm (Wu and He 2018, arXiv 1803.08494), which looks at one
    row at a time and has no running statistics.

    Attributes:
        groups: groups a norm; of a layer whose channels they do not divide, the next lower number
            that does.
    """

    groups: int = Field(default=8, ge=1)

    def apply(self, network: torch.nn.Module) -> torch.nn.Module:
        """Replace them in place; scales begin at 1 and shifts at 0."""
        from torch import nn

        for parent in list(network.modules()):
            for name, module in list(parent.named_children()):
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    setattr(parent, name, self._group_norm(module))
        return network

    def _group_norm(self, norm: torch.nn.modules.batchnorm._BatchNorm) -> torch.nn.Module:
        from torch import nn

        channels = norm.num_features
        groups = next(g for g in range(min(self.groups, channels), 0, -1) if channels % g == 0)
        device = norm.weight.device if norm.affine else None
        return nn.GroupNorm(groups, channels, eps=norm.eps, affine=norm.affine, device=device)


def replaced(model: Model, groups: int) -> Model:
    """A copy of the model with group norms, which begin with the batch norms' scales and shifts."""
    import torch
    from torch import nn

    kept = {
        f"{name}.{key}": value.detach().clone()
        for name, module in model.network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for key, value in module.named_parameters(recurse=False)
    }
    changed = model.with_structure(ReplaceNorm(groups=groups), seed=0)
    with torch.no_grad():
        for name, parameter in changed.network.named_parameters():
            if name in kept:
                parameter.copy_(kept[name])
    return changed
