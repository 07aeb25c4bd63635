"""Catch what modules of a network give in a forward pass; nothing stays on the network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

Tensors = dict[str, torch.Tensor]


def tensors_of(value: Any) -> list[torch.Tensor]:
    """The tensors of a module's output: itself, or those of a tuple or of a model's output."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [item for item in value if isinstance(item, torch.Tensor)]
    return []


@contextlib.contextmanager
def capturing(network: nn.Module, names: Iterable[str], into: dict[str, Any]) -> Iterator[None]:
    """Within it, the outputs of the named modules are put into `into`, whole.

    Args:
        network: the network.
        names: modules, as in `network.named_modules()`.
        into: name -> what the module gave last.

    Raises:
        KeyError: there is no such module.
    """
    modules = dict(network.named_modules())
    handles = []
    try:
        for name in names:

            def keep(_: nn.Module, __: Any, output: Any, name: str = name) -> None:
                into[name] = output

            handles.append(modules[name].register_forward_hook(keep))
        yield
    finally:
        for handle in handles:
            handle.remove()
