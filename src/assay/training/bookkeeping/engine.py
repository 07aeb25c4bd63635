"""The engine of private steps: clipped sums of the gradients of privacy units.

One backward pass gives the gradients of the outputs of all operations that use moving parameters.
From these and the inputs of the operations follow the norms of the gradients of units, mostly
without building them; then, with each unit's factor, the clipped sum (book-keeping: Bu et al. 2023,
arXiv 2210.00038; ghost norms: Li et al. 2022, arXiv 2110.05679).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from assay.training.batches import Batch
from assay.training.bookkeeping.backward import pass_back
from assay.training.bookkeeping.gathered import Gathered
from assay.training.bookkeeping.groups import Grouping
from assay.training.bookkeeping.matrix import LEAN, Matrix, reserve
from assay.training.bookkeeping.refusals import new_use_refused, not_finite_refused
from assay.training.bookkeeping.uses import KEEP, Use
from assay.training.bookkeeping.watch import Moving, Watch
from assay.training.flat import Flat

Tensor = torch.Tensor
#: what automatic clipping adds to a norm (Bu et al. 2022, arXiv 2206.07136)
STABLE = 0.01


@dataclass(frozen=True)
class Clip:
    """How the gradient of a unit is bounded.

    Attributes:
        bound: the largest L2 norm, over all players together.
        automatic: every gradient is scaled to (nearly) the bound, also a small one.
    """

    bound: float
    automatic: bool = False

    def factors(self, norms: Tensor, share: float = 1.0) -> Tensor:
        """Factor of each unit `[U]`, in [0, 1] times what the norm allows.

        Args:
            norms: of the units' gradients `[U]`.
            share: share of the bound.
        """
        bound = self.bound * share
        if self.automatic:
            return bound / (norms + STABLE)
        return torch.where(norms > bound, bound / norms.clamp_min(1e-30), torch.ones_like(norms))


@dataclass
class BookKeeping:
    """Adds clipped sums of gradients of units to the players' gradients.

    Attributes:
        moving: the parameters that move.
        clip: how a unit is bounded.
        support: parameter -> where it may be other than zero.
        methods: (parameter, role) -> how its norms are computed; what is missing is guessed.
        odd: parameters that are used in ways that are not known: their units go one by one.
        norms: of the last backward pass, player -> `[U]`.
        keep_squares: keep those of each parameter in `squares`.
        squares: parameter -> squared norms `[U]` in the last backward pass.
        pool: memory that is used again in every step.
    """

    moving: Moving
    clip: Clip
    support: Mapping[str, Tensor] = field(default_factory=dict)
    methods: dict[str, str] = field(default_factory=dict)
    odd: frozenset[str] = frozenset()
    norms: dict[str, Tensor] = field(default_factory=dict)
    keep_squares: bool = False
    squares: dict[str, Tensor] = field(default_factory=dict)
    pool: dict[Any, Tensor] = field(default_factory=dict, repr=False)
    _ways: dict[Any, str] = field(default_factory=dict, repr=False)
    _watch: Watch | None = None
    _batch: Batch | None = None

    @contextlib.contextmanager
    def watching(self, batch: Batch) -> Iterator[None]:
        """Within it, the forward passes of the objective on a batch are watched."""
        watch = Watch(self.moving, len(batch), self.odd)
        self._watch, self._batch = watch, batch
        # an attack on the inputs may go backward, too: what it leaves in gradients is nobody's
        grads = [(p, p.grad) for p in self.moving.parameters.values()]
        for parameter, _ in grads:
            parameter.grad = None
        try:
            with watch:
                yield
        finally:
            for parameter, grad in grads:
                parameter.grad = grad

    def backward(
        self,
        losses: Mapping[str, Tensor],
        rows: int,
        flats: Mapping[str, Flat],
        share: float = 1.0,
    ) -> dict[str, Tensor]:
        """Add each player's clipped sum to its `grads`; nothing is divided by `rows`.

        Args:
            losses: player -> losses of privacy units `[U]`.
            rows: of the whole logical batch, for the scalar that is logged: private sums are
                divided by what is expected, not by what came.
            flats: player -> its buffers.
            share: share of the bound that each player has.

        Returns:
            Player -> the losses' sum over `rows`, detached.

        Raises:
            UsageError: a parameter is used in a way that was not there when the stage began.
        """
        watch, batch = self._watch, self._batch
        if watch is None or batch is None:
            raise ValueError("expected a forward pass within `watching`")
        self._watch = self._batch = None
        new = set(watch.odd) - self.odd
        if new:
            name = sorted(new)[0]
            raise new_use_refused(name, repr(watch.odd[name]))
        grouping = Grouping.of_batch(batch)
        players = list(losses)
        for i, player in enumerate(players):
            last = i + 1 == len(players)
            self._player(player, losses[player], watch, grouping, share, retain=not last)
        return {player: units.detach().sum() / rows for player, units in losses.items()}

    def _player(
        self,
        player: str,
        losses: Tensor,
        watch: Watch,
        grouping: Grouping,
        share: float,
        retain: bool,
    ) -> None:
        mine = {n: p for n, p in self.moving.parameters.items() if n.startswith(f"{player}:")}
        odd = {n: p for n, p in mine.items() if n in self.odd and losses.requires_grad}
        table = _by_parameter(watch.uses, {n: p for n, p in mine.items() if n not in odd})
        parts, small = self._through(losses, watch, table, grouping, retain or bool(odd))
        table = {n: [(u, r) for u, r in uses if u.reached] for n, uses in table.items()}
        squares = losses.new_zeros(grouping.units)
        with torch.no_grad():
            if small.rows:
                squares += small.squares()
            for name in mine:
                if name not in odd and name not in small.rows:
                    ready = parts.get(name)
                    uses = table.get(name, [])
                    part = self._squares(name, uses, grouping) if ready is None else ready
                    squares += part
                    if self.keep_squares:
                        self.squares[name] = part + squares.new_zeros(grouping.units)
        if odd:
            squares += self._odd_squares(losses, odd, watch, grouping)
        with torch.no_grad():
            norms = squares.clamp_min(0).sqrt()
            self.norms[player] = norms
            factors = self.clip.factors(norms, share)
            finite = torch.isfinite(norms)
            if not bool(finite.all()):
                if odd:
                    raise not_finite_refused(sorted(odd)[0])
                # a unit without a finite gradient takes no part: 0 times infinity is not a number
                factors = torch.where(finite, factors, torch.zeros_like(factors))
                self._forget(watch.uses, small, grouping.rows(~finite))
            of_rows = grouping.spread(factors)
            gradients = {name: _gradient(parameter) for name, parameter in mine.items()}
            if small.rows:
                small.add(of_rows, gradients)
            for name, total in gradients.items():
                for use, role in () if name in small.rows else table.get(name, ()):
                    use.add(role, of_rows, total, grouping.shared)
        if odd:
            found = watch.grad(losses, list(odd.values()), factors, retain)
            for parameter, grad in zip(odd.values(), found, strict=True):
                if grad is not None:
                    _gradient(parameter).add_(grad)

    def _through(
        self,
        losses: Tensor,
        watch: Watch,
        table: Mapping[str, list[tuple[Use, str]]],
        grouping: Grouping,
        keep: bool,
    ) -> tuple[dict[str, Tensor], Gathered]:
        """The backward pass: each use gets the gradient of its output.

        Norms that follow from one use are computed as it passes, while it and the input are near;
        what is not needed after that is let go, so that its memory serves what comes next.

        Returns:
            Parameter -> squared norms `[U]`, of those whose norms follow from one use; and the
            gradients of rows of the small ones among them.

        Raises:
            UsageError: the losses reach a parameter by a way that is no use.
        """
        alone = {
            name
            for name, uses in table.items()
            if grouping.plain and len(uses) == 1 and name not in self.support
        }
        parts: dict[str, Tensor] = {}
        small = Gathered()

        def arrived(use: Use, grad: Tensor) -> None:
            use.grad, use.reached = grad.float(), True
            if isinstance(use, Matrix):
                use.pool = self.pool
            single = [(role, name) for role, name in use.names.items() if name in alone]
            for role, name in single:
                if use.is_small(role) and not self.keep_squares:
                    small.rows[name] = use.rows(role).flatten(1)
                else:
                    parts[name] = use.squares(role, self.way(name, use, role), grouping.shared)
            if len(single) == len(use.names):
                use.settle()

        for use in watch.uses:
            use.grad, use.reached = None, False
        mine = list({id(use): use for uses in table.values() for use, _ in uses}.values())
        self._reserve(mine, alone)
        reached = pass_back(losses, watch, mine, arrived, keep) if losses.requires_grad else set()
        for name in table:
            if id(self.moving.parameters[name]) in reached:
                raise new_use_refused(name, "something that cannot be seen")
        return parts, small

    def _reserve(self, uses: Sequence[Use], alone: set[str]) -> None:
        """Memory for those gradients of rows that are known to be kept."""
        sizes = {}
        for use in uses:
            name = use.names.get("weight", "")
            kept = self.methods.get(name, "ghost") not in LEAN and name in alone
            if kept and isinstance(use, Matrix) and use.keeps("weight"):
                sizes[name] = use.rows_in * use.shapes["weight"].numel()
        reserve(self.pool, sizes)

    @staticmethod
    def _forget(uses: Sequence[Use], small: Gathered, rows: Tensor) -> None:
        if small.rows:
            small.clear(rows)
        for use in uses:
            use.clear(rows)

    # -- norms ------------------------------------------------------------------------------

    def _squares(
        self, name: str, uses: list[tuple[Use, str]], grouping: Grouping
    ) -> Tensor | float:
        """Squared norms of the units' gradients of one parameter, `[U]`."""
        if not uses:
            return 0.0
        if name in self.support:
            return self._built(name, uses, grouping, None)
        if len(uses) == 1 and grouping.plain:
            use, role = uses[0]
            return use.squares(role, self.method(name, use, role), grouping.shared)
        together = grouping.together(uses)
        if together is not None:
            use, role = together
            return use.squares(role, "ghost", {})
        return self._built(name, uses, grouping, None)

    def way(self, name: str, use: Use, role: str) -> str:
        """See `method`, which it asks once for each shape."""
        key = (name, role, use.g.shape, self.methods.get(name))
        found = self._ways.get(key)
        if found is None:
            found = self._ways[key] = self.method(name, use, role)
        return found

    def method(self, name: str, use: Use, role: str) -> str:
        """The way that was chosen for a parameter, or the cheapest guess."""
        possible = use.methods(role)
        chosen = self.methods.get(name)
        return chosen if chosen in possible else possible[0]

    def _built(
        self,
        name: str,
        uses: list[tuple[Use, str]],
        grouping: Grouping,
        more: Any,
    ) -> Tensor:
        """By building the gradients of a few units at a time.

        Args:
            name: of the parameter.
            uses: its uses.
            grouping: rows to units.
            more: unit -> a gradient to add; None for none.
        """
        parameter = self.moving.parameters[name]
        step = max(1, KEEP // (4 * parameter.numel()))
        mask = self.support.get(name)
        found = []
        for start in range(0, grouping.units, step):
            stop = min(start + step, grouping.units)
            rows, local = grouping.between(start, stop)
            whole = torch.zeros(stop - start, *parameter.shape)
            for use, role in uses:
                whole.index_add_(0, local, use.rows(role, rows).reshape(-1, *parameter.shape))
            if more is not None:
                for u in range(start, stop):
                    extra = more(u)
                    if extra is not None:
                        whole[u - start] += extra
            if mask is not None:
                whole *= mask
            found.append(whole.flatten(1).square().sum(1))
        return torch.cat(found) if found else torch.zeros(0)

    def _odd_squares(
        self,
        losses: Tensor,
        odd: Mapping[str, nn.Parameter],
        watch: Watch,
        grouping: Grouping,
    ) -> Tensor:
        """Units one by one, for parameters with uses that are not known."""
        total = torch.zeros(grouping.units)
        for name, parameter in odd.items():

            def alone(unit: int, parameter: nn.Parameter = parameter) -> Tensor | None:
                (grad,) = watch.grad(losses[unit], [parameter])
                return grad

            with torch.enable_grad():
                part = self._built(name, [], grouping, alone).detach()
            total += part
            if self.keep_squares:
                self.squares[name] = part
        return total


def _by_parameter(
    uses: Sequence[Use], mine: Mapping[str, nn.Parameter]
) -> dict[str, list[tuple[Use, str]]]:
    """Parameter -> its uses and the role it has in each."""
    table: dict[str, list[tuple[Use, str]]] = {name: [] for name in mine}
    for use in uses:
        for role, name in use.names.items():
            if name in mine:
                table[name].append((use, role))
    return table


def _gradient(parameter: nn.Parameter) -> Tensor:
    """Where the parameter's gradient is added up."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
