"""Before a private stage, on synthetic inputs: is every unit's gradient its own and exact, and
which way of computing norms is fastest for each layer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from assay.errors import UsageError
from assay.training.batches import Batch
from assay.training.bookkeeping.backward import pass_back
from assay.training.bookkeeping.engine import BookKeeping
from assay.training.bookkeeping.matrix import LEAN, Matrix
from assay.training.bookkeeping.modes import (
    by_chance,
    first_that_mixes,
    refuse_statistics,
    still,
)
from assay.training.bookkeeping.refusals import reentrant_refused
from assay.training.bookkeeping.uses import Use
from assay.training.bookkeeping.watch import Moving, Watch

Tensor = torch.Tensor
Inputs = dict[str, Tensor]
#: how far norms in a batch may be from those of rows alone
_TOLERANCE = 1e-3
_MODEL = "model"
#: so many bytes may the gradients of rows take that are kept from norms to sums
ALL = 1 << 29


def batch_of(inputs: Inputs) -> Batch:
    """A batch of synthetic rows, each a unit."""
    n = len(next(iter(inputs.values())))
    span = torch.arange(n)
    return Batch(inputs, torch.zeros(n), torch.ones(n), span, span, n, plain=True)


def losses_of(network: nn.Module, inputs: Inputs) -> Tensor:
    """A loss for each row that every output takes part in, `[N]`."""
    out: Tensor = network(**inputs)
    weights = torch.linspace(1.0, 2.0, out[0].numel(), dtype=out.dtype)
    return (out.flatten(1) * weights).sum(1).tanh() + out.flatten(1).square().mean(1)


def check(books: BookKeeping, network: nn.Module, inputs: Inputs) -> frozenset[str]:
    """Hold the norms of rows in a batch against those of each row alone.

    Args:
        books: with the moving parameters.
        network: the network.
        inputs: at least two synthetic rows.

    Returns:
        Names of the parameters whose units have to go one by one.

    Raises:
        UsageError: a row's gradient is not its own in a batch, or is not found exactly; names the
            module.
    """
    mine = {n: p for n, p in books.moving.parameters.items() if n.startswith(f"{_MODEL}:")}
    odd: frozenset[str] = frozenset()
    with still(network):
        odd |= _held(books, network, inputs, mine)
    with still(network, training=True):
        refuse_statistics(network, inputs)
        if not by_chance(network, inputs):
            odd |= _held(books, network, inputs, mine)
    return odd


def _held(
    books: BookKeeping, network: nn.Module, inputs: Inputs, mine: dict[str, nn.Parameter]
) -> frozenset[str]:
    """See `check`: in the mode that the network is in."""
    batch = batch_of(inputs)
    alone = _alone(network, inputs, mine)
    odd = _odd(books.moving, network, inputs, mine)
    trial = BookKeeping(books.moving, books.clip, odd=odd, keep_squares=True)
    with trial.watching(batch):
        losses = losses_of(network, inputs)
    trial.backward({_MODEL: losses}, len(batch), {})
    for name, expected in alone.items():
        got = trial.squares.get(name, torch.zeros(len(batch))).sqrt()
        scale = expected.max().clamp_min(1e-6)
        if float((got - expected).abs().max() / scale) > _TOLERANCE:
            culprit = first_that_mixes(network, inputs)
            if culprit is None:
                culprit = name.partition(":")[2].rpartition(".")[0]
            raise UsageError(
                "the gradient of a row depends on the other rows of its batch, or is not found",
                where=f"module {culprit or 'network'}",
                mend="let this module not move, or replace it with one that treats rows alone",
            )
    return trial.odd


def _alone(
    network: nn.Module, inputs: Inputs, parameters: dict[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Norm of each row's gradient, the row alone in its batch: parameter -> `[N]`."""
    n = len(next(iter(inputs.values())))
    found = {name: torch.zeros(n) for name in parameters}
    row = 0

    def note(name: str) -> Callable[[Tensor], None]:
        def noted(parameter: Tensor) -> None:
            if parameter.grad is not None:
                found[name][row] = parameter.grad.norm()
            # at once: all gradients together take as much memory as the network
            parameter.grad = None

        return noted

    handles = []
    for name, parameter in parameters.items():
        hooked: Any = parameter
        handles.append(hooked.register_post_accumulate_grad_hook(note(name)))
    try:
        for row in range(n):
            losses = losses_of(network, {k: v[row : row + 1] for k, v in inputs.items()})
            if losses.requires_grad:
                torch.autograd.backward([losses.sum()], inputs=list(parameters.values()))
    except RuntimeError as error:
        if "checkpoint" in str(error):
            raise reentrant_refused() from None
        raise
    finally:
        for handle in handles:
            handle.remove()
    return found


def _odd(
    moving: Moving, network: nn.Module, inputs: Inputs, parameters: dict[str, nn.Parameter]
) -> frozenset[str]:
    """Parameters with a use that is not known, or that the graph reaches although no use of theirs
    was seen (code in C++, functions of the user); and with them those of the same operations.
    """
    odd: frozenset[str] = frozenset()
    while True:
        watch = Watch(moving, len(next(iter(inputs.values()))), odd)
        with watch:
            losses = losses_of(network, inputs)
        found = odd | frozenset(watch.odd)
        rest = {n: p for n, p in parameters.items() if n not in found}
        if rest and losses.requires_grad:
            grads = watch.grad(losses, list(rest.values()))
            found |= {n for n, g in zip(rest, grads, strict=True) if g is not None}
        if found == odd:
            return odd
        odd = found


def choose(books: BookKeeping, network: nn.Module, inputs: Inputs) -> dict[str, str]:
    """The fastest way for each weight, by timing norm and clipped sum together.

    Where gradients of rows would take more memory than `ALL`, the largest are not kept, but found
    in the way that is the fastest of those that keep none.

    Args:
        books: with the moving parameters.
        network: the network.
        inputs: synthetic rows, as many as go through the network at once.

    Returns:
        Parameter -> way, for those that have a choice.
    """
    batch = batch_of(inputs)
    chosen: dict[str, str] = {}
    lean: dict[str, str] = {}
    sizes: dict[str, int] = {}
    timed: dict[tuple[object, ...], dict[str, float]] = {}
    with still(network):
        watch = Watch(books.moving, len(batch), books.odd)
        with watch:
            losses = losses_of(network, inputs)
        uses = [use for use in watch.uses if isinstance(use, Matrix)]
        if not uses:
            return {}
        factors = torch.full((len(batch),), 0.5)

        def arrived(use: Use, grad: Tensor) -> None:
            name = use.names.get("weight")
            if name is None or name in books.odd or name in chosen:
                return
            assert isinstance(use, Matrix)
            use.grad, use.pool = grad, {}
            ways, shape = use.methods("weight"), use.shapes["weight"]
            like = (type(use), tuple(shape), tuple(grad.shape), ways)
            if like not in timed:
                several = len(ways) > 1
                timed[like] = {w: _seconds(use, w, factors) if several else 0.0 for w in ways}
            seconds = timed[like]
            slim = [way for way in ways if way in LEAN] or ways
            chosen[name] = min(ways, key=lambda way: seconds[way])
            lean[name] = min(slim, key=lambda way: seconds[way])
            sizes[name] = 4 * len(batch) * shape.numel()
            use.grad = use.pool = None

        pass_back(losses, watch, uses, arrived, keep=False)
    kept = sorted((n for n, way in chosen.items() if way not in LEAN), key=lambda n: sizes[n])
    while sum(sizes[name] for name in kept) > ALL:
        name = kept.pop()
        chosen[name] = lean[name]
    return chosen


def _seconds(use: Use, way: str, factors: Tensor) -> float:
    """Seconds of a norm and a clipped sum, the better of three."""
    total = torch.zeros(use.shapes["weight"])
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        use.squares("weight", way, {})
        use.add("weight", factors, total, {})
        best = min(best, time.perf_counter() - start)
    return best
