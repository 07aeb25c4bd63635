"""Masks: weights that stay zero."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from assay.models.structure import Structure
from assay.registry import register

if TYPE_CHECKING:
    import torch

    from assay.models.model import Model

#: a mask is the buffer `<parameter>__mask` beside its parameter
SUFFIX = "__mask"


@register("structure", "mask")
class Mask(Structure):
    """A bool buffer beside each parameter says where it may be non-zero. The training loop keeps
    all else at zero; the forward pass does not look at masks.

    Attributes:
        names: names of the parameters, or globs over them (`*.weight`).
    """

    names: tuple[str, ...] = ("*.weight",)

    def apply(self, network: torch.nn.Module) -> torch.nn.Module:
        """Register masks of ones; a parameter that has a mask keeps it.

        Raises:
            UsageError: no parameter has such a name.
        """
        import torch

        for name in _matching(network, self.names):
            owner, parameter = _owner(network, name)
            if parameter + SUFFIX not in owner._buffers:
                weight = owner.get_parameter(parameter)
                ones = torch.ones(weight.shape, dtype=torch.bool, device=weight.device)
                owner.register_buffer(parameter + SUFFIX, ones)
        return network

    def support(self, network: torch.nn.Module) -> dict[str, torch.Tensor]:
        """The masks by parameter name."""
        found = {}
        for name in _matching(network, self.names):
            owner, parameter = _owner(network, name)
            found[name] = owner.get_buffer(parameter + SUFFIX)
        return found


def _owner(network: torch.nn.Module, name: str) -> tuple[torch.nn.Module, str]:
    """The module that owns a parameter, and the parameter's name in it."""
    module, _, parameter = name.rpartition(".")
    return network.get_submodule(module), parameter


def _matching(network: torch.nn.Module, patterns: Iterable[str]) -> list[str]:
    from assay.errors import UsageError, did_you_mean

    known = [name for name, _ in network.named_parameters()]
    wanted = tuple(patterns)
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise UsageError(
                f"no parameter {pattern!r}", where="mask.names", mend=did_you_mean(pattern, known)
            )
    return [name for name in known if any(fnmatchcase(name, p) for p in wanted)]


def apply_masks(network: torch.nn.Module) -> None:
    """Set every masked weight to zero, in place."""
    import torch

    with torch.no_grad():
        for module in network.modules():
            for name, mask in list(module._buffers.items()):
                if name.endswith(SUFFIX) and mask is not None:
                    module.get_parameter(name.removesuffix(SUFFIX)).masked_fill_(~mask, 0.0)


def mask_model(model: Model, masks: Mapping[str, torch.Tensor]) -> Model:
    """A copy of the model whose weights are zero outside the masks and will stay so.

    Args:
        model: the model.
        masks: parameter name -> bool tensor of its shape, true where it may be non-zero. Where a
            parameter has a mask already, both hold.

    Raises:
        ValueError: a mask is of another shape.
    """
    masked = model.with_structure(Mask(names=tuple(masks)), seed=0)
    for name, mask in masks.items():
        owner, parameter = _owner(masked.network, name)
        buffer = owner.get_buffer(parameter + SUFFIX)
        if buffer.shape != mask.shape:
            raise ValueError(f"{name}: expected {tuple(buffer.shape)}, got {tuple(mask.shape)}")
        buffer.logical_and_(mask)
    apply_masks(masked.network)
    return masked


def without_names(
    structures: Iterable[Structure], names: set[str], network: torch.nn.Module
) -> tuple[Structure, ...]:
    """The structures, the masks of these parameters left out (and a mask with none left)."""
    kept: list[Structure] = []
    for structure in structures:
        if isinstance(structure, Mask):
            rest = tuple(n for n in _matching(network, structure.names) if n not in names)
            if rest:
                kept.append(structure.model_copy(update={"names": rest}))
        else:
            kept.append(structure)
    return tuple(kept)
