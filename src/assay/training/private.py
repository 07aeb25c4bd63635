"""What a private stage is made of: sampling, clipping, noise, and the record of what was used."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from assay.errors import UsageError
from assay.files import read_json, write_json
from assay.privacy.events import Event
from assay.privacy.naming import name_of
from assay.privacy.randomness import Stream
from assay.training.batches import Batch
from assay.training.bookkeeping.check import check, choose
from assay.training.bookkeeping.engine import BookKeeping, Clip
from assay.training.bookkeeping.refusals import batch_norm_refused
from assay.training.bookkeeping.watch import Moving
from assay.training.flat import Flat
from assay.training.parts import MODEL, Setup
from assay.training.poisson import PoissonSource
from assay.training.sources import RowSource

if TYPE_CHECKING:
    from assay.training.steps.private import Private

#: the ways of computing norms that this stage began with
METHODS = "norms.json"


def sampling(part: Private, setup: Setup, rows: Any, batches: int, piece: int) -> PoissonSource:
    """Poisson sampling of the units of a row source.

    Args:
        part: the settings.
        setup: of the stage.
        rows: where batches came from otherwise.
        batches: factor on the batch size (accumulation).
        piece: rows that go through the network at once.

    Raises:
        UsageError: batches do not come from training rows.
    """
    if not isinstance(rows, RowSource):
        raise UsageError(
            "the objective makes its own batches, whose privacy units nobody knows",
            where="step.private",
            mend="leave out private, or use an objective on training rows",
        )
    context = setup.context
    if part.insecure_seed is not None or context.secret is None:
        stream = Stream.open(context.work, part.insecure_seed)
    else:
        stream = context.secret.derive("steps")
    context.ended.append(stream.destroy)
    return PoissonSource(rows, stream, float(rows.batch * batches), part.rows_per_unit, piece)


@dataclass
class PrivateEngine:
    """Clipped sums of units' gradients, with noise: see `assay.training.engines`.

    Attributes:
        books: computes clipped sums.
        source: gives the batches, with the rate that is accounted for.
        noise: noise multiplier.
        part: the settings.
        unit: the privacy unit, in words.
        data: keyed digest of the data.
        step: number of the step under way.
    """

    books: BookKeeping
    source: PoissonSource
    noise: float
    part: Private
    unit: str
    data: str
    step: int = 0
    _seen: int = 0
    _clipped: float = 0.0
    _flats: dict[str, Flat] = field(default_factory=dict)

    @classmethod
    def make(cls, part: Private, setup: Setup) -> PrivateEngine:
        """The engine of a stage whose players are attached.

        Raises:
            UsageError: a module mixes rows, or cannot be bounded exactly; says which.
        """
        source = setup.source
        if not isinstance(source, PoissonSource):
            raise UsageError(
                "batches are not sampled privately",
                where="step.private",
                mend="leave out what makes batches of its own",
            )
        moving = {
            player: [n for n, p in network.named_parameters() if p.requires_grad]
            for player, network in setup.networks.items()
        }
        refuse_mixing(setup.networks[MODEL])
        clip = Clip(1.0, automatic=True) if part.clip == "auto" else Clip(float(part.clip))
        books = BookKeeping(Moving.of(setup.networks, moving), clip)
        support = setup.model.support()
        books.support = {
            f"{MODEL}:{name}": mask for name, mask in support.items() if name in moving[MODEL]
        }
        _prepare(books, setup, source.piece)
        noise = part.multiplier(source.rate, setup.total_steps)
        data = setup.context.dataset
        setup.context.progress.say(
            f"private: noise multiplier {noise:.4g}, each of {source.n_units:,} units taken with "
            f"probability {source.rate:.4g} in each of {setup.total_steps:,} steps"
        )
        return cls(books, source, noise, part, data.schema.unit or "row", name_of(data))

    @contextlib.contextmanager
    def watching(self, batch: Batch) -> Iterator[None]:
        """See `Engine.watching`."""
        with self.books.watching(batch):
            yield

    def secret(self) -> int:
        """See `Engine.secret`."""
        return int.from_bytes(self.source.stream.bytes("chance", 0, 16), "little")

    def begin(self, step: int, flats: Mapping[str, Flat]) -> None:
        """Draw the step's noise in the background, while gradients are computed."""
        self.step, self._seen, self._clipped = step, 0, 0.0
        if self.noise > 0:
            for player, flat in flats.items():
                self.source.stream.prefetch(f"noise.{player}", step, flat.size)

    def backward(
        self, losses: Mapping[str, torch.Tensor], rows: int, flats: Mapping[str, Flat]
    ) -> dict[str, torch.Tensor]:
        """See `Engine.backward`."""
        share = 1 / math.sqrt(len(flats))
        found = self.books.backward(losses, rows, flats, share)
        norms = self.books.norms.get(MODEL)
        if norms is not None and len(norms):
            self._seen += len(norms)
            self._clipped += float((norms > self.books.clip.bound * share).sum())
        return found

    def finish(self, flats: Mapping[str, Flat]) -> dict[str, float]:
        """Add noise to the sums and divide by the number of units expected."""
        for player, flat in flats.items():
            if self.noise > 0:
                drawn = torch.empty(flat.size)
                self.source.stream.gaussian(f"noise.{player}", self.step, drawn)
                flat.grads[0].add_(drawn, alpha=self.noise * self.books.clip.bound)
            flat.grads.div_(self.source.expected)
        return {"clipped": self._clipped / self._seen} if self._seen else {}

    def facts(self, steps: int) -> dict[str, Any]:
        """What was used, for the stage's record.

        Args:
            steps: that were taken.
        """
        event = Event(
            noise_multiplier=self.noise,
            sampling=self.source.rate,
            steps=max(1, steps),
            data=self.data,
            unit=self.unit,
            what="gradient steps",
        )
        told = event.model_dump(exclude_none=True)
        return {
            "private": {
                "events": [told],
                "delta": self.part.delta,
                "clip": self.books.clip.bound,
                "automatic": self.books.clip.automatic,
                "units": self.source.n_units,
                "expected": self.source.expected,
                "rows_per_unit": self.source.most,
                "insecure": self.source.stream.insecure,
            }
        }


def refuse_mixing(network: nn.Module) -> None:
    """Refuse batch norms that train, or whose running statistics would move.

    Raises:
        UsageError: there is one.
    """
    everything = all(p.requires_grad for p in network.parameters())
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            own = [p.requires_grad for p in module.parameters()]
            if any(own) if own else everything:
                raise batch_norm_refused(f"{MODEL}:{name}.weight")


def _prepare(books: BookKeeping, setup: Setup, piece: int) -> None:
    """Check the network on synthetic inputs, and choose how norms are computed."""
    from assay.training.preparing import synthetic

    model, context = setup.model, setup.context
    books.odd = check(books, model.network, synthetic(model, 3, 0.25))
    path = context.work / METHODS if context.work is not None else None
    if path is not None and path.is_file():
        books.methods = dict(read_json(path))
        return
    rows = max(1, min(piece, int(setup.source.expected)))
    books.methods = choose(books, model.network, synthetic(model, rows))
    if path is not None:
        write_json(path, books.methods)
