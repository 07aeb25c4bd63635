"""A network while it is checked: in either mode, without chance, and afterwards as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from assay.errors import UsageError

Tensor = torch.Tensor
Inputs = dict[str, Tensor]
#: what parameters that are nought are filled with: a branch behind them would not be seen
_FILLED = 0.05


class NoDropout(TorchFunctionMode):
    """Within it, nothing is dropped, in whatever mode the network is."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See `torch.overrides`."""
        name, kwargs = getattr(func, "__name__", ""), dict(kwargs or {})
        if "dropout" in name:
            return args[0] if args else kwargs["input"]
        if "dropout_p" in kwargs:
            kwargs["dropout_p"] = 0.0
        if name == "multi_head_attention_forward":
            kwargs["training"] = False
        return func(*args, **kwargs)


@contextlib.contextmanager
def still(network: nn.Module, training: bool = False) -> Iterator[None]:
    """Evaluation or training mode without dropout, gradients kept aside, parameters that are all
    nought filled; afterwards everything, buffers and the generator too, is as it was.
    """
    modes = [(m, m.training) for m in network.modules()]
    grads = [(p, p.grad) for p in network.parameters()]
    buffers = [(b, b.clone()) for b in network.buffers()]
    network.train(training)
    for module in network.modules():
        # those that move are refused, and others are frozen by the loop
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    for parameter, _ in grads:
        parameter.grad = None
    with torch.random.fork_rng(devices=[]), contextlib.ExitStack() as stack:
        torch.manual_seed(0)
        stack.enter_context(_filled(network))
        stack.enter_context(NoDropout())
        try:
            yield
        finally:
            for module, was in modes:
                module.training = was
            for parameter, grad in grads:
                parameter.grad = grad
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)


@contextlib.contextmanager
def _filled(network: nn.Module) -> Iterator[None]:
    empty = [p for p in network.parameters() if p.requires_grad and not bool(p.detach().any())]
    with torch.no_grad():
        for parameter in empty:
            parameter.normal_(0, _FILLED)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter in empty:
                parameter.zero_()


def by_chance(network: nn.Module, inputs: Inputs) -> bool:
    """Whether a pass draws anything (stochastic depth, noise): two passes then differ."""
    before = torch.get_rng_state()
    with torch.no_grad():
        network(**inputs)
    return not torch.equal(before, torch.get_rng_state())


def refuse_statistics(network: nn.Module, inputs: Inputs) -> None:
    """Refuse buffers that rows leave something in: no noise covers them.

    Raises:
        UsageError: names the module.
    """
    left: list[dict[str, Tensor]] = []
    for rows in (inputs, {name: value.flip(0)[:1] for name, value in inputs.items()}):
        kept = {name: buffer.clone() for name, buffer in network.named_buffers()}
        torch.manual_seed(0)
        with torch.no_grad():
            network(**rows)
        left.append({name: buffer.clone() for name, buffer in network.named_buffers()})
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                buffer.copy_(kept[name])
    for name, value in left[0].items():
        if not torch.equal(value, left[1][name]):
            raise UsageError(
                f"the buffer {name.rpartition('.')[2]} keeps statistics of the rows that pass, "
                "which no noise covers",
                where=f"module {name.rpartition('.')[0] or 'network'}",
                mend="let it keep none (track_running_stats=False), or replace the module",
            )


def first_that_mixes(network: nn.Module, inputs: Inputs) -> str | None:
    """The module that is the first to give a row something else in a batch than alone."""
    batched, single = _ended(network, inputs), None
    n = len(next(iter(inputs.values())))
    for row in range(n):
        single = _ended(network, {k: v[row : row + 1] for k, v in inputs.items()})
        if [name for name, _ in single] != [name for name, _ in batched]:
            return None
        for (name, together), (_, alone) in zip(batched, single, strict=True):
            if together.shape[:1] == (n,) and alone.shape == (1, *together.shape[1:]):
                scale = float(alone.abs().max().clamp_min(1e-6))
                if float((together[row] - alone[0]).abs().max()) > 1e-4 * scale:
                    return name
    return None


def _ended(network: nn.Module, inputs: Inputs) -> list[tuple[str, Tensor]]:
    """What each module gave, in the order in which they ended."""
    found: list[tuple[str, Tensor]] = []
    handles = []
    for name, module in network.named_modules():

        def keep(_: Any, __: Any, out: Any, name: str = name) -> None:
            if isinstance(out, Tensor) and out.is_floating_point() and out.dim():
                found.append((name, out.detach()))

        handles.append(module.register_forward_hook(keep))
    try:
        with torch.no_grad():
            network(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found
