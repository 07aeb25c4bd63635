"""Watch a forward pass for uses of moving parameters, without touching the network.

Within `Watch`, an operation of `torch` that uses a moving parameter in a way that is known here is
computed with the parameter detached and remembered as a `Use`: the backward pass then stops at its
output, where its gradient is all that is needed. Any other operation on a moving parameter is left
alone and the parameter is noted as `odd`: its gradients of units are found one by one.

Nothing is hooked, wrapped or replaced: outside `Watch` the network is what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import _engine_run_backward
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from assay.training.bookkeeping import operations as ops
from assay.training.bookkeeping.matrix import Conv, Linear, Transposed
from assay.training.bookkeeping.refusals import batch_norm_refused, gradient_of_gradient_refused
from assay.training.bookkeeping.uses import Elementwise, Embedding, Norm, Use

Tensor = torch.Tensor
Args = tuple[Any, ...]
Named = Mapping[str, Any]


@dataclass
class Moving:
    """The moving parameters of all players.

    Attributes:
        names: id of a parameter -> (player, name).
    """

    names: dict[int, str] = field(default_factory=dict)
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)

    @classmethod
    def of(cls, networks: Mapping[str, nn.Module], moving: Mapping[str, Iterable[str]]) -> Moving:
        """Those that move, by `player:name`; a tied parameter once."""
        found = cls()
        for player, network in networks.items():
            chosen = set(moving[player])
            for name, parameter in network.named_parameters():
                if name in chosen:
                    found.names[id(parameter)] = f"{player}:{name}"
                    found.parameters[f"{player}:{name}"] = parameter
        return found


class _First(torch.autograd.Function):
    """An operation on data alone: its output has a gradient, and may be changed in place."""

    @staticmethod
    def forward(ctx: Any, start: Tensor, make: Callable[[], Tensor]) -> Tensor:
        return make()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
        return None, None


class Watch(TorchFunctionMode):
    """Remembers uses of moving parameters.

    Args:
        moving: the parameters.
        rows: rows of a forward pass: the leading dimension of inputs.
        alone: names of parameters whose every use is left alone, because one is not known.

    Attributes:
        uses: in the order of the forward pass.
        odd: names of the parameters with a use that is not known here.
    """

    def __init__(self, moving: Moving, rows: int, alone: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.moving, self.n, self.alone = moving, rows, alone
        self.uses: list[Use] = []
        self.odd: dict[str, str] = {}
        self._again = False
        self._start = torch.zeros((), requires_grad=True)

    def grad(
        self, losses: Tensor, of: Sequence[Any], weights: Tensor | None = None, keep: bool = True
    ) -> Sequence[Tensor | None]:
        """Gradients of losses; what is computed again on the way back (checkpointing) is watched
        again, so that it comes out as before.

        Args:
            losses: which are summed.
            of: parameters and edges.
            weights: of the losses; None for 1.
            keep: keep the graph.
        """
        # `torch.autograd.grad` would take the watch off: this is what it calls
        self._again = True
        try:
            with self:
                ones = torch.ones_like(losses) if weights is None else weights
                run: Any = _engine_run_backward
                found: Sequence[Tensor | None] = run(
                    (losses,), (ones,), keep, False, tuple(of), True, accumulate_grad=False
                )
                return found
        finally:
            self._again = False

    def __torch_function__(
        self, func: Any, types: Any, args: Args = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See `torch.overrides`."""
        kwargs = kwargs or {}
        names = self.moving.names
        # every operation of the network comes by here
        touched = []
        for arg in args:
            if id(arg) in names:
                touched.append(arg)
            elif isinstance(arg, (list, tuple)):
                touched += [a for a in arg if id(a) in names]
        if kwargs:
            touched += [a for a in kwargs.values() if id(a) in names]
        if not touched or not torch.is_grad_enabled():
            if kwargs.get("create_graph") and self.uses and not self._again:
                raise gradient_of_gradient_refused()
            return func(*args, **kwargs)
        maker = _MAKERS.get(func)
        if any(names[id(parameter)] in self.alone for parameter in touched):
            maker = None
        use = maker(self, func, args, kwargs) if maker is not None else None
        if use is None:
            if getattr(func, "__name__", "") not in ops.HARMLESS:
                for parameter in touched:
                    self.odd.setdefault(names[id(parameter)], getattr(func, "__name__", str(func)))
            return func(*args, **kwargs)
        out = use.take()
        if not self._again:
            self.uses.append(use)
        return out

    # -- what the makers of uses need -------------------------------------------------------

    def roles(self, **given: Tensor | None) -> tuple[dict[str, str], dict[str, torch.Size]]:
        """Which of these are moving parameters, and their shapes."""
        names = {
            role: self.moving.names[id(p)]
            for role, p in given.items()
            if p is not None and id(p) in self.moving.names
        }
        return names, {r: p.shape for r, p in given.items() if p is not None}

    def run(self, make: Callable[[], Tensor], *inputs: Tensor | None) -> Tensor:
        """The output of an operation whose parameters were detached, with a gradient to ask for.

        Args:
            make: the operation.
            inputs: its inputs; weights among them may be computed from others.
        """
        if any(v is not None and v.requires_grad and not self.is_moving(v) for v in inputs):
            return make()
        return _First.apply(self._start, make)  # type: ignore[no-any-return,no-untyped-call]

    def aligned(self, x: Any) -> bool:
        """Whether the leading dimension of a tensor is that of rows, or rows and positions."""
        if not isinstance(x, Tensor) or x.dim() < 2:
            return False
        return x.shape[0] == self.n or (x.dim() == 2 and x.shape[0] % self.n == 0)

    def is_moving(self, value: Any) -> bool:
        """Whether it is a moving parameter."""
        return id(value) in self.moving.names


Maker = Callable[[Watch, Any, Args, Named], "Use | None"]


def plain(value: Any) -> Any:
    """A parameter without its history."""
    return value.detach() if isinstance(value, nn.Parameter) else value


def _bind(names: tuple[str, ...], args: Args, kwargs: Named) -> dict[str, Any]:
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _linear(watch: Watch, func: Any, args: Args, kwargs: Named) -> Use | None:
    given = _bind(("input", "weight", "bias"), args, kwargs)
    x, weight, bias = given["input"], given["weight"], given.get("bias")
    if not watch.aligned(x) or watch.is_moving(x):
        return None
    names, shapes = watch.roles(weight=weight, bias=bias)
    out = watch.run(lambda: functional.linear(x, plain(weight), plain(bias)), x, weight, bias)
    return Linear(names, shapes, watch.n, out, x=x.detach())


def _addmm(watch: Watch, func: Any, args: Args, kwargs: Named) -> Use | None:
    if kwargs or len(args) != 3:
        return None
    bias, x, weight = args
    if not watch.aligned(x) or watch.is_moving(x) or bias.dim() != 1:
        return None
    names, shapes = watch.roles(weight=weight, bias=bias)
    out = watch.run(lambda: torch.addmm(plain(bias), x, plain(weight)), bias, x, weight)
    return Transposed(names, shapes, watch.n, out, x=x.detach())


def _matmul(watch: Watch, func: Any, args: Args, kwargs: Named) -> Use | None:
    if kwargs or len(args) != 2:
        return None
    x, weight = args
    if watch.is_moving(x) or weight.dim() != 2 or not watch.aligned(x):
        return None
    names, shapes = watch.roles(weight=weight)
    out = watch.run(lambda: torch.matmul(x, plain(weight)), x)
    return Transposed(names, shapes, watch.n, out, x=x.detach())


def _tuple(value: Any, dims: int) -> tuple[int, ...]:
    return (value,) * dims if isinstance(value, int) else tuple(value) * (dims // len(value))


def _conv(watch: Watch, func: Any, args: Args, kwargs: Named) -> Use | None:
    order = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    given = _bind(order, args, kwargs)
    x, weight, bias, dims = given["input"], given["weight"], given.get("bias"), ops.CONVS[func]
    if x.dim() != dims + 2 or x.shape[0] != watch.n or watch.is_moving(x):
        return None
    stride = _tuple(given.get("stride", 1), dims)
    dilation = _tuple(given.get("dilation", 1), dims)
    padding, groups = given.get("padding", 0), given.get("groups", 1)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        if any(t % 2 for t in total):
            sides = [s for t in reversed(total) for s in (t // 2, t - t // 2)]
            x, total = functional.pad(x, sides), [0] * dims
        padding = tuple(t // 2 for t in total)
    padding = (0,) * dims if padding == "valid" else _tuple(padding, dims)
    names, shapes = watch.roles(weight=weight, bias=bias)
    settings = (stride, padding, dilation, groups)
    out = watch.run(lambda: func(x, plain(weight), plain(bias), *settings), x, weight, bias)
    return Conv(
        names,
        shapes,
        watch.n,
        out,
        x=x.detach(),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def _embedding(watch: Watch, func: Any, args: Args, kwargs: Named) -> Use | None:
    order = (
        "input",
        "weight",
        "padding_idx",
        "max_norm",
        "norm_type",
        "scale_grad_by_freq",
        "sparse",
    )
    given = _bind(order, args, kwargs)
    ids, weight, padding = given["input"], given["weight"], given.get("padding_idx")
    strange = given.get("max_norm") is not None or given.get("scale_grad_by_freq")
    if strange or watch.is_moving(ids) or ids.dim() == 0:
        return None
    if padding is not None and padding < 0:
        padding += weight.shape[0]
    broadcast = ids.shape[0] == 1 and watch.n > 1 and ids.dim() > 1
    if not broadcast and ids.shape[0] != watch.n:
        return None
    if broadcast:
        # one row of ids for all (positions): each row gets its own, so that it has its gradient
        ids = ids.expand(watch.n, *ids.shape[1:])
    names, shapes = watch.roles(weight=weight)
    out = watch.run(lambda: functional.embedding(ids, plain(weight)))
    return Embedding(names, shapes, watch.n, out, ids=ids, padding=padding)


def _layer_norm(watch: Watch, func: Any, args: Args, kwargs: Named) -> Use | None:
    order = ("input", "normalized_shape", "weight", "bias", "eps")
    given = _bind(order, args, kwargs)
    x, shape, weight, bias = (given.get(k) for k in order[:4])
    assert isinstance(x, Tensor)
    assert shape is not None
    if x.shape[0] != watch.n or x.dim() <= len(shape) or watch.is_moving(x):
        return None
    more = {"eps": given["eps"]} if "eps" in given else {}
    names, shapes = watch.roles(weight=weight, bias=bias)
    rms = func is functional.rms_norm
    scales = (plain(weight),) if rms else (plain(weight), plain(bias))
    found: list[Tensor] = []

    def make() -> Tensor:
        if rms or torch.is_autocast_enabled("cpu"):
            return func(x, shape, *scales, **more)  # type: ignore[no-any-return]
        out: Tensor
        out, *stats = ops.LAYER_NORM(x, shape, *scales, more.get("eps", 1e-5))
        found.extend(value.detach() for value in stats)
        return out

    out, still = watch.run(make, x, weight, bias), x.detach()
    if not found:
        return Norm(names, shapes, watch.n, out, again=lambda: func(still, shape, **more))
    mean, rate = found
    return Norm(names, shapes, watch.n, out, again=lambda: still - mean, rate=rate)


def _group_norm(watch: Watch, func: Any, args: Args, kwargs: Named) -> Use | None:
    order = ("input", "num_groups", "weight", "bias", "eps")
    given = _bind(order, args, kwargs)
    x, groups, weight, bias = (given.get(k) for k in order[:4])
    assert isinstance(x, Tensor)
    if x.shape[0] != watch.n or watch.is_moving(x):
        return None
    more = {"eps": given["eps"]} if "eps" in given else {}
    names, shapes = watch.roles(weight=weight, bias=bias)
    out = watch.run(lambda: func(x, groups, plain(weight), plain(bias), **more), x, weight, bias)
    still = x.detach()
    return Norm(
        names, shapes, watch.n, out, again=lambda: func(still, groups, **more), channels=True
    )


def _batch_norm(watch: Watch, func: Any, args: Args, kwargs: Named) -> Use | None:
    given = _bind(("input", "running_mean", "running_var", "weight", "bias"), args, kwargs)
    names, _ = watch.roles(weight=given.get("weight"), bias=given.get("bias"))
    raise batch_norm_refused(next(iter(names.values())))


def _elementwise(watch: Watch, func: Any, args: Args, kwargs: Named) -> Use | None:
    if kwargs or len(args) != 2:
        return None
    first, second = args
    swapped = watch.is_moving(first)
    parameter, other = (first, second) if swapped else (second, first)
    if not isinstance(other, Tensor) or watch.is_moving(other):
        return None
    out = watch.run(lambda: func(plain(first), plain(second)), other)
    fits = out.dim() > 0 and other.dim() == out.dim() and other.shape[0] == watch.n == out.shape[0]
    lead = parameter.dim() == out.dim() and parameter.shape[0] != 1
    if not fits or lead or parameter.dim() > out.dim():
        return None
    negative = swapped if func in ops.RSUB else func in ops.SUB and not swapped
    names, shapes = watch.roles(weight=parameter)
    factor = other.detach() if func in ops.MUL else None
    return Elementwise(
        names,
        shapes,
        watch.n,
        out,
        factor=factor,
        sign=-1.0 if negative else 1.0,
    )


def _expand(watch: Watch, func: Any, args: Args, kwargs: Named) -> Use | None:
    parameter = args[0]
    if kwargs or not watch.is_moving(parameter):
        return None
    out = watch.run(lambda: plain(parameter).expand(*args[1:]).contiguous())
    longer = out.dim() > parameter.dim() or (
        out.dim() == parameter.dim() and parameter.shape[0] == 1
    )
    if out.shape[0] != watch.n or not longer or watch.n == 1 != out.shape[0]:
        return None
    names, shapes = watch.roles(weight=parameter)
    return Elementwise(names, shapes, watch.n, out)


_MAKERS: dict[Any, Maker] = {
    functional.linear: _linear,
    torch.addmm: _addmm,
    functional.embedding: _embedding,
    functional.layer_norm: _layer_norm,
    functional.rms_norm: _layer_norm,
    functional.group_norm: _group_norm,
    Tensor.expand: _expand,
    **dict.fromkeys(ops.CONVS, _conv),
    **dict.fromkeys(ops.MATMUL, _matmul),
    **dict.fromkeys(ops.NORMS, _batch_norm),
    **dict.fromkeys(ops.ADD | ops.SUB | ops.RSUB | ops.MUL, _elementwise),
}
