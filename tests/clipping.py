"""The loop over privacy units that book-keeping must equal, in float64, one unit at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from assay.training.batches import Batch, to_units
from assay.training.bookkeeping.engine import BookKeeping, Clip
from assay.training.bookkeeping.watch import Moving

Tensor = torch.Tensor
Inputs = dict[str, Tensor]
Networks = Mapping[str, nn.Module]
#: networks and inputs of rows -> player -> losses of these rows `[N]`
Objective = Callable[[Networks, Inputs], dict[str, Tensor]]
PLAYER = "model"


class Sums(dict[str, Tensor]):
    """Clipped sums by `player:name`.

    Attributes:
        masses: the lengths of what units added to each, summed.
    """

    def __init__(self, sums: Mapping[str, Tensor], masses: dict[str, float]) -> None:
        super().__init__(sums)
        self.masses = masses


class Of(nn.Module):
    """A network that is a function of its modules and parameters, its input called `x`."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self._function = forward

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self._function(self, x)
        return out


def parameter(*shape: int) -> nn.Parameter:
    """A parameter by itself."""
    return nn.Parameter(torch.randn(*shape))


def plain(networks: Networks, inputs: Inputs) -> dict[str, Tensor]:
    """A loss in which every output of a row takes part, of the first network."""
    return {PLAYER: rowwise(next(iter(networks.values()))(**inputs))}


def rowwise(out: Tensor) -> Tensor:
    """`[N, ...]` -> `[N]`."""
    flat = out.flatten(1)
    weights = torch.linspace(-1.0, 2.0, flat.shape[1], dtype=out.dtype) / flat.shape[1] ** 0.5
    rows: Tensor = (flat * weights).sum(1).sin() + flat.square().mean(1)
    return rows


def batch_of(inputs: Inputs, units: Tensor | None = None) -> Batch:
    """Rows, each a unit of its own where nothing else is said."""
    n = len(next(iter(inputs.values())))
    alone = units is None
    of = torch.arange(n) if units is None else units
    count = int(of.max()) + 1
    return Batch(inputs, torch.zeros(n), torch.ones(n), torch.arange(n), of, count, plain=alone)


def books_for(networks: Networks, clip: Clip, **more: Any) -> BookKeeping:
    """Book-keeping for all parameters that require a gradient."""
    moving = {
        player: [n for n, p in network.named_parameters() if p.requires_grad]
        for player, network in networks.items()
    }
    return BookKeeping(Moving.of(networks, moving), clip, **more)


def found_odd(networks: Networks, batch: Batch, objective: Objective, clip: Clip) -> frozenset[str]:
    """What uses are not known in that objective."""
    books = books_for(networks, clip)
    odd: frozenset[str] = frozenset()
    while True:
        with books.watching(batch):
            objective(networks, batch.inputs)
        watch = books._watch
        assert watch is not None
        if set(watch.odd) <= odd:
            return odd
        odd |= frozenset(watch.odd)
        books.odd = odd


def kept(
    networks: Networks,
    batch: Batch,
    clip: Clip,
    objective: Objective = plain,
    share: float = 1.0,
    books: BookKeeping | None = None,
) -> dict[str, Tensor]:
    """Clipped sums by book-keeping: `player:name` -> sum."""
    if books is None:
        books = books_for(networks, clip, odd=found_odd(networks, batch, objective, clip))
    for parameter in books.moving.parameters.values():
        parameter.grad = None
    with books.watching(batch):
        losses = {
            player: to_units(rows, batch.units, batch.n_units)
            for player, rows in objective(networks, batch.inputs).items()
        }
    books.backward(losses, len(batch), {}, share)
    found = {}
    for name, parameter in books.moving.parameters.items():
        grad = parameter.grad
        found[name] = torch.zeros_like(parameter) if grad is None else grad.detach().clone()
        parameter.grad = None
    return found


def looped(
    networks: Networks,
    batch: Batch,
    clip: Clip,
    objective: Objective = plain,
    share: float = 1.0,
    support: Mapping[str, Tensor] | None = None,
) -> tuple[Sums, dict[str, Tensor]]:
    """The same by a loop: each unit alone in its batch, in float64.

    Returns:
        Sums by `player:name`, and norms of units by player `[U]`.
    """
    exact = {player: copy.deepcopy(network).double() for player, network in networks.items()}
    names = {
        player: {n: p for n, p in network.named_parameters() if p.requires_grad}
        for player, network in exact.items()
    }
    total = {f"{k}:{n}": torch.zeros_like(p) for k, ps in names.items() for n, p in ps.items()}
    masses = dict.fromkeys(total, 0.0)
    norms: dict[str, list[Tensor]] = {}
    for unit in range(batch.n_units):
        inputs = {
            k: (v.double() if v.is_floating_point() else v)[batch.units == unit]
            for k, v in batch.inputs.items()
        }
        losses = objective(exact, inputs)
        for player, rows in losses.items():
            mine = names[player]
            grads = torch.autograd.grad(
                rows.sum(), list(mine.values()), retain_graph=True, allow_unused=True
            )
            whole: dict[str, Tensor] = {}
            found: tuple[Tensor | None, ...] = grads
            for name, grad in zip(mine, found, strict=True):
                value = torch.zeros_like(mine[name]) if grad is None else grad
                mask = (support or {}).get(f"{player}:{name}")
                whole[name] = value if mask is None else value * mask
            norm = torch.stack([g.square().sum() for g in whole.values()]).sum().sqrt()
            norms.setdefault(player, []).append(norm)
            factor = float(clip.factors(norm[None], share))
            for name, value in whole.items():
                if torch.isfinite(norm):
                    total[f"{player}:{name}"] += factor * value
                    masses[f"{player}:{name}"] += factor * float(value.norm())
    return Sums(total, masses), {k: torch.stack(v) for k, v in norms.items()}


def assert_equal(got: Mapping[str, Tensor], want: Sums) -> None:
    """Clipped sums of every parameter are the same to 1e-5 of the lengths that units add to it (of
    one to which they add next to nothing: to 1e-6 of what they add to all).
    """
    assert got.keys() == want.keys()
    whole = sum(want.masses.values())
    assert whole > 0, "nothing moves: this shows nothing"
    for name, value in want.items():
        distance = float((got[name].double() - value).norm())
        allowed = max(1e-5 * want.masses[name], 1e-6 * whole)
        assert distance <= allowed, f"{name}: {distance:.3g} apart, {allowed:.3g} allowed"


def check(
    networks: Networks | nn.Module,
    inputs: Inputs,
    units: Tensor | None = None,
    objective: Objective = plain,
    odd: frozenset[str] | None = None,
    share: float = 1.0,
) -> frozenset[str]:
    """Book-keeping equals the loop, for both kinds of clipping.

    The plain bound is put between the norms of the units, so that it bites for about half of them.

    Args:
        networks: one, or all by player.
        inputs: of rows.
        units: of the rows; each its own by default.
        objective: the losses.
        odd: what goes one by one, as the check before a stage found it; else what is seen here.
        share: of the bound, for each player.

    Returns:
        Names of parameters whose units went one by one.
    """
    if isinstance(networks, nn.Module):
        networks = {PLAYER: networks}
    batch = batch_of(inputs, units)
    _, norms = looped(networks, batch, Clip(1.0), objective)
    lengths = next(iter(norms.values()))
    middle = float(lengths[torch.isfinite(lengths)].mean())
    if odd is None:
        odd = found_odd(networks, batch, objective, Clip(1.0))
    for clip in (Clip(middle), Clip(middle, automatic=True)):
        want, _ = looped(networks, batch, clip, objective, share)
        books = books_for(networks, clip, odd=odd)
        assert_equal(kept(networks, batch, clip, objective, share, books), want)
    return odd
