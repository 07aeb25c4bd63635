"""Operations of torch, by what they do with a parameter."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

Tensor = torch.Tensor

CONVS: dict[Any, int] = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}
ADD = {torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__}
SUB = {torch.sub, Tensor.sub, Tensor.__sub__}
RSUB = {Tensor.__rsub__, torch.rsub}
MUL = {torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__}
MATMUL = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm}
NORMS = {functional.batch_norm, torch.batch_norm}
#: operations that tell something about a parameter and do not use its values
HARMLESS = frozenset(
    {"__get__", "__len__", "__repr__", "data_ptr", "detach", "dim", "element_size", "is_complex"}
    | {"is_contiguous", "is_floating_point", "numel", "register_hook", "requires_grad_", "size"}
    | {"stride"}
)
#: gives mean and factor of each position, too
LAYER_NORM: Any = torch.native_layer_norm
