"""The network side of LoRA: the layer, where it goes, and merging. Needs torch."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn import functional

from assay.errors import UsageError

#: last part of the names of query and value projections, in the transformers of the hub
_QUERY_VALUE = frozenset({"query", "value", "q_proj", "v_proj", "q_lin", "v_lin", "q", "v"})
#: projections that hold query, key and value in one matrix
_FUSED = frozenset({"query_key_value", "qkv", "qkv_proj", "Wqkv"})
_HEAD = "head"


class LoRALinear(nn.Linear):
    """A linear layer with a low-rank update: `y = x W' + b + scale (x A') B'`.

    Names `weight` and `bias` are those of the layer it replaces. `lora_A` is `[r, in]`, `lora_B`
    `[out, r]`; `scale = alpha / r` and `rate` (dropout before A) are plain numbers.
    """

    lora_A: nn.Parameter  # noqa: N815 - the names that PEFT uses
    lora_B: nn.Parameter  # noqa: N815
    scale: float
    rate: float

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`[..., in]` -> `[..., out]`."""
        low = functional.dropout(input, self.rate, self.training) if self.rate else input
        update = functional.linear(functional.linear(low, self.lora_A), self.lora_B)
        return super().forward(input) + self.scale * update

    def delta(self) -> torch.Tensor:
        """The update of the weight, `scale B A`, `[out, in]`."""
        return self.scale * (self.lora_B @ self.lora_A)

    def extra_repr(self) -> str:
        """Sizes, rank and scale."""
        return f"{super().extra_repr()}, r={self.lora_A.shape[0]}, scale={self.scale:g}"


@dataclass(frozen=True)
class Adapter:
    """What `merge` takes out of one layer: `a` `[r, in]`, `b` `[out, r]`, scale, dropout rate."""

    a: torch.Tensor
    b: torch.Tensor
    scale: float
    rate: float


def adapted(network: nn.Module) -> Iterator[tuple[str, LoRALinear]]:
    """(name, layer) of every layer that has an adapter; a shared layer once."""
    for name, module in network.named_modules():
        if isinstance(module, LoRALinear):
            yield name, module


def candidates(network: nn.Module) -> list[str]:
    """Names of the linear layers that an adapter can be put on: all but those whose weights are
    read by another module than themselves, where an adapter would silently do nothing.
    """
    bypassed: list[str] = []
    names: list[str] = []
    for name, module in network.named_modules():
        if isinstance(module, (nn.MultiheadAttention, nn.TransformerEncoderLayer)):
            bypassed.append(name + "." if name else "")
        if type(module) in (nn.Linear, LoRALinear) and not name.startswith(tuple(bypassed)):
            names.append(name)
    return names


def find_targets(
    network: nn.Module, targets: Iterable[str] | str, within: Iterable[str]
) -> list[str]:
    """The layers that adapters go on.

    Args:
        network: the network.
        targets: `auto`, or patterns: a name, the end of a name (`query`), or a glob.
        within: module names to look in; empty for the whole network.

    Raises:
        UsageError: nothing fits; names the linear layers there are.
    """
    inside = tuple(within)
    available = [
        name
        for name in candidates(network)
        if not inside or any(name == w or name.startswith(w + ".") for w in inside)
    ]
    if targets == "auto":
        found = _attention(available) or [n for n in available if n.split(".")[0] != _HEAD]
    else:
        patterns = [targets] if isinstance(targets, str) else list(targets)
        for pattern in patterns:
            if not any(_fits(name, pattern) for name in available):
                raise _no_target(pattern, available)
        found = [name for name in available if any(_fits(name, p) for p in patterns)]
    if not found:
        raise _no_target(targets if isinstance(targets, str) else "", available)
    return found


def _attention(names: list[str]) -> list[str]:
    for known in (_QUERY_VALUE, _FUSED):
        found = [name for name in names if name.rsplit(".", 1)[-1] in known]
        if found:
            return found
    return []


def _fits(name: str, pattern: str) -> bool:
    return name == pattern or name.endswith("." + pattern) or fnmatchcase(name, pattern)


def _no_target(pattern: str, available: list[str]) -> UsageError:
    more = f" and {len(available) - 12} more" if available[12:] else ""
    shown = ", ".join(available[:12]) + more
    return UsageError(
        f"no linear layer fits {pattern!r}",
        where="lora.targets",
        mend=f"choose among: {shown}" if available else "use another choice of parameters",
    )


def replace_layers(network: nn.Module, new: dict[str, nn.Module]) -> nn.Module:
    """Put modules in the place of those of these names, everywhere they occur (in place)."""
    by_identity = {id(network.get_submodule(name)): module for name, module in new.items()}
    if id(network) in by_identity:
        return by_identity[id(network)]
    for parent in list(network.modules()):
        for child, module in list(parent.named_children()):
            if id(module) in by_identity:
                setattr(parent, child, by_identity[id(module)])
    return network


def _same_as(old: nn.Linear, cls: type[nn.Linear]) -> nn.Linear:
    """A `cls` with the very parameters and buffers of `old` (tied weights and masks stay)."""
    new = cls.__new__(cls)
    new.__dict__.update(old.__dict__)
    for registry in ("_parameters", "_buffers", "_modules"):
        new.__dict__[registry] = dict(old.__dict__[registry])
    new.__dict__["_non_persistent_buffers_set"] = set(old._non_persistent_buffers_set)
    return new


def attach(layer: nn.Linear, rank: int, alpha: float, rate: float) -> LoRALinear:
    """`layer` with an adapter: A kaiming-uniform from torch's generator, B zero, as in Hu et al."""
    new = _same_as(layer, LoRALinear)
    assert isinstance(new, LoRALinear)
    new.lora_A = nn.Parameter(layer.weight.new_empty(rank, layer.in_features))
    new.lora_B = nn.Parameter(layer.weight.new_zeros(layer.out_features, rank))
    nn.init.kaiming_uniform_(new.lora_A, a=math.sqrt(5))
    new.scale, new.rate = alpha / rank, rate
    return new


def merge(network: nn.Module) -> tuple[nn.Module, dict[str, Adapter]]:
    """Add each update to its weight.

    Masks on these weights go: where an update was added, zeros are no longer known to be zero.

    Returns:
        A copy of the network without adapters, and the adapters by layer, which `unmerge` takes.
    """
    network = copy.deepcopy(network)
    taken: dict[str, Adapter] = {}
    plain: dict[str, nn.Module] = {}
    for name, layer in adapted(network):
        a, b = layer.lora_A.detach(), layer.lora_B.detach()
        taken[name] = Adapter(a.clone(), b.clone(), layer.scale, layer.rate)
        new = _same_as(layer, nn.Linear)
        del new.lora_A, new.lora_B, new.__dict__["scale"], new.__dict__["rate"]
        new._buffers.pop("weight__mask", None)
        weight = layer.weight.detach() + layer.delta().detach()
        new.weight = nn.Parameter(weight, requires_grad=layer.weight.requires_grad)
        plain[name] = new
    return replace_layers(network, plain), taken


def unmerge(network: nn.Module, adapters: dict[str, Adapter]) -> nn.Module:
    """Undo `merge`: a copy of the network with the adapters back and the weights as before (to
    rounding).
    """
    network = copy.deepcopy(network)
    parted: dict[str, nn.Module] = {}
    for name, adapter in adapters.items():
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        rank = adapter.a.shape[0]
        new = attach(layer, rank, adapter.scale * rank, adapter.rate)
        new.scale = adapter.scale
        with torch.no_grad():
            new.lora_A.copy_(adapter.a)
            new.lora_B.copy_(adapter.b)
            new.weight = nn.Parameter(
                layer.weight - new.delta(), requires_grad=layer.weight.requires_grad
            )
        parted[name] = new
    return replace_layers(network, parted)
