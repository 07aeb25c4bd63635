"""The one loop that every training stage runs.

    job = Job(stage, model, context)        # parts are initialised, or restored from a checkpoint
    place.run(job):
        until job.done:
            job.step():
                for each micro-batch from the source, augmented:   (where from)
                    rows   = each term's losses of rows             (what is learnt)
                    units  = rows summed by privacy unit            (law 1)
                    engine adds d(sum of units)/d(parameters) to each player's gradient [1, P]
                gradient parts transform the gradient               (how a step is taken)
                schedule gives the rate, optimiser updates [1, P]
                coordinates outside the support return to zero      (masks)
                weights parts (EMA) follow
                at the end of an epoch: validation, early stopping
                now and then: a checkpoint
    model = job.finish()                    # a new model; the networks get their memory back

The loop knows parts by their slots and their declared capabilities, never by their class. All
randomness of a step is a function of (seed, stage, step): nothing needs to be remembered for a
resumed run to go on exactly where it stopped.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from assay.errors import UsageError
from assay.files import derive_seed
from assay.training import curves, preparing, saving
from assay.training.batches import Batch, to_units
from assay.training.capture import capturing
from assay.training.checkpoint import Checkpoints
from assay.training.meter import Meter
from assay.training.mixing import losses_of
from assay.training.parts import MODEL, Answers, Call, Setup
from assay.training.sources import LogicalSource
from assay.training.teachers import record as record_teachers
from assay.training.tuning import attention_of, use_attention

if TYPE_CHECKING:
    from assay.models.model import Model
    from assay.training.context import RunContext

#: seconds between two checkpoints within a stage
CHECKPOINT_SECONDS = 30.0
_LOGGED_LINES = 200


class Job:
    """A training stage under way; see the module for what a step does.

    Attributes:
        steps_done: optimiser steps taken.
        total_steps: steps the stage will take at most.
        stopped: early stopping has ended it.
    """

    def __init__(
        self,
        stage: Answers,
        model: Model,
        context: RunContext,
        teachers: Mapping[str, Model] | None = None,
    ) -> None:
        self.stage, self.context = stage, context
        self.model: Model = stage.parameters.prepare(model.copy(), context.derive("structure"))
        self.networks: dict[str, torch.nn.Module] = {MODEL: self.model.network}
        settings = {p.part_name: p for p in stage.step if p.slot == "setting"}
        self._dropout = preparing.set_dropout(self.model.network, settings.get("dropout"))
        known = {"current": model, **(teachers or {})}
        self.setup = Setup(self.model, self.networks, context, teachers=known)
        accumulate = settings.get("accumulate")
        together = accumulate.batches if accumulate is not None else 1
        self.source, rows = preparing.source(stage, self.setup, together)
        self.setup.source = self.source
        self._accumulate = 1 if isinstance(self.source, LogicalSource) else together
        self.steps_per_epoch = -(-self.source.steps_per_epoch // self._accumulate)
        self.total_steps = max(1, math.ceil(stage.epochs * self.steps_per_epoch))
        self.setup.total_steps = self.total_steps
        self.setup.steps_per_epoch = self.steps_per_epoch
        for term in stage.objective:
            self.networks.update(term.networks(self.setup))
        self.players = preparing.players(stage, self.model, self.networks)
        moving = set(self.players[MODEL].moving)
        self.kernel = preparing.kernel(stage, self.model, context, moving)
        self._attention = attention_of(self.model.network)
        use_attention(self.model.network, self.kernel.attention)
        for player in self.players.values():
            player.attach(self.kernel.channels_last)
        self.feeder = preparing.feeder(stage, self.model, context, moving, self.kernel, rows)
        self._terms = [(term, term.init(self.setup)) for term in stage.objective]
        self._watched = {name for term in stage.objective for name in term.watch(self.setup)}
        read = {k: v for t in stage.objective for k, v in t.lineage(self.setup).items()}
        record_teachers(read, self.setup.teachers, context)
        self._flats = {name: player.flat for name, player in self.players.items()}
        self._engine = preparing.engine(stage, self.setup)
        self.valid = curves.Validation.make(self)
        self.state = self.source.init()
        self.steps_done, self.stopped = 0, False
        self.interval, self.epoch = Meter(), Meter()
        secret = self._engine.secret()
        #: what the steps' chance follows from; a private engine's own, which nobody can guess
        self._seed = context.seed if secret is None else secret
        self._base_seed = self._derive("step") % (1 << 62)
        self._log_every = max(1, self.total_steps // _LOGGED_LINES)
        self._checkpoints = Checkpoints(context.work) if context.work is not None else None
        self._saved_at = time.monotonic()
        self._opened: contextlib.ExitStack | None = None
        self._restore()

    # -- a step -----------------------------------------------------------------------------

    @property
    def steered(self) -> bool:
        """Whether validation losses decide something."""
        return any(getattr(part, "observes", False) for part in self.stage.step)

    @property
    def done(self) -> bool:
        """Whether the stage has taken its steps, or was stopped early."""
        return self.stopped or self.steps_done >= self.total_steps

    def step(self) -> None:
        """One optimiser step."""
        if self._opened is None:
            self._open()
        batches = self._next_batches()
        rows = sum(len(batch) for batch in batches)
        metrics: dict[str, float] = {}
        for player in self.players.values():
            player.flat.zero_grad()
        self._engine.begin(self.steps_done, self._flats)
        for index, batch in enumerate(batches):
            torch.default_generator.manual_seed(
                (self._base_seed + self.steps_done * self._accumulate + index) % (1 << 62)
            )
            shown = self.augmented(batch, index)
            with self._engine.watching(shown):
                losses, logged = self.objective(shown, training=True)
            for name, loss in self._engine.backward(losses, rows, self._flats).items():
                key = "loss" if name == MODEL else f"loss.{name}"
                metrics[key] = metrics.get(key, 0.0) + float(loss)
            for name, value in logged.items():
                metrics[name] = metrics.get(name, 0.0) + float(value) / len(batches)
        metrics.update(self._engine.finish(self._flats))
        rate = 0.0
        for player in self.players.values():
            rate, more = player.update(self.steps_done, self.total_steps)
            metrics.update(more)
        self.steps_done += 1
        self._log(metrics, rate)
        if self.steps_done % self.steps_per_epoch == 0 or self.done:
            self._end_epoch()
        self._maybe_checkpoint()

    def _derive(self, *names: str | int) -> int:
        return derive_seed(self._seed, self.context.stage, *names)

    def _next_batches(self) -> list[Batch]:
        if isinstance(self.source, LogicalSource):
            batches, self.state = self.source.logical(self.state, self.model)
            return batches
        batches = []
        for _ in range(self._accumulate):
            epoch = self.state.get("epoch")
            batch, self.state = self.source.next(self.state, self.model)
            batches.append(batch)
            if self.state.get("epoch") != epoch:
                break  # an update never mixes two epochs
        return batches

    def forward(self, inputs: dict[str, torch.Tensor], player: str = MODEL) -> torch.Tensor:
        """Outputs `[N, K]` in float32, computed with the tuned kernel and the cached prefix."""
        if self.feeder is not None:
            inputs = self.feeder.unpack(inputs)
        if self.kernel.precision == "fp32":
            plain: torch.Tensor = self.networks[player](**inputs)
            return plain
        with self.kernel.autocast():
            result: torch.Tensor = self.networks[player](**inputs)
        return result.float()

    def augmented(self, batch: Batch, index: int) -> Batch:
        """The batch as this step's augmentations show it; cached views are shown already."""
        if self.stage.cached_views and self.feeder is not None and self.feeder.cached:
            return batch
        for place, part in enumerate(self.stage.augment):
            seed = self._derive("augment", self.steps_done, index, place, part.part_name)
            batch = part.apply(batch, torch.Generator().manual_seed(seed))
        return batch

    def objective(
        self, batch: Batch, training: bool
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Losses of units `[U]` for each player, and scalars to log."""
        outputs: dict[str, torch.Tensor] = {}
        captured: dict[str, Any] = {}

        def forward(player: str, inputs: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
            if inputs is not None:
                return self.forward(inputs, player)
            if player not in outputs:
                watched = self._watched if player == MODEL else ()
                with capturing(self.networks[player], watched, captured):
                    outputs[player] = self.forward(batch.inputs, player)
            return outputs[player]

        def generator(name: str) -> torch.Generator:
            seed = self._derive("term", self.steps_done, name)
            return torch.Generator().manual_seed(seed)

        call = Call(batch, self.setup, self.steps_done, forward, generator, training, captured)
        total: dict[str, torch.Tensor] = {}
        logged: dict[str, torch.Tensor] = {}
        single = len(self._terms) == 1
        for term, state in self._terms:
            losses = losses_of(term, call, state)
            logged.update(losses.metrics)
            for player, rows in losses.rows.items():
                units = losses.units.get(player)
                if units is not None:
                    loss = to_units(rows, units, batch.n_units)
                elif batch.plain:
                    loss = rows
                else:
                    loss = to_units(rows * batch.weights, batch.units, batch.n_units)
                if term.weight != 1.0:
                    loss = loss * term.weight
                total[player] = total[player] + loss if player in total else loss
                if not single and player == MODEL:
                    logged[f"loss.{term.part_name}"] = loss.detach().mean()
        return total, logged

    # -- between steps ----------------------------------------------------------------------

    def _open(self) -> None:
        """Enter training mode; the prefix stays in evaluation mode and, if cached, is skipped."""
        self._opened = contextlib.ExitStack()
        for network in self.networks.values():
            network.train()
            preparing.freeze_norms(network)
        if self.feeder is not None:
            self._opened.enter_context(self.feeder.feeding())

    def close(self) -> None:
        """Leave the network as any other code expects it."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _log(self, metrics: dict[str, float], rate: float) -> None:
        self._must_be_finite(metrics)
        self.interval.add(metrics)
        self.epoch.add(metrics)
        if self.steps_done % self._log_every == 0:
            means = self.interval.take()
            self._write(kind="step", split="train", lr=rate, **means)
            text = f"loss {means['loss']:.4f}" if "loss" in means else ""
            self.context.progress.update(self.steps_done, self.total_steps, text)

    def _must_be_finite(self, values: dict[str, float], what: str = "") -> None:
        """Refuse to go on with numbers that are none.

        Raises:
            UsageError: one of the values is infinite or not a number.
        """
        for name, value in values.items():
            if not math.isfinite(value):
                said = f"{what}{name}".replace("_", " ")
                raise UsageError(
                    f"the {said} is {value} at step {self.steps_done}",
                    where=f"stages[{self.context.stage}].{self.stage.part_name}",
                    mend="lower lr, add warm-up or clip_norm, or set precision: fp32",
                )

    def _write(self, **values: Any) -> None:
        epoch = round(self.steps_done / self.steps_per_epoch, 4)
        self.context.metrics.write(
            stage=self.context.stage, step=self.steps_done, epoch=epoch, **values
        )

    def _end_epoch(self) -> None:
        means = self.epoch.take()
        self._write(kind="epoch", split="train", **means)
        epoch = self.steps_done / self.steps_per_epoch
        text = f"epoch {epoch:g}: loss {means.get('loss', math.nan):.4f}"
        if self.valid is not None:
            with self.evaluating():
                values = self.valid.measure(self)
            self._must_be_finite(values, "validation ")
            self._write(kind="epoch", split="valid", **values)
            text += ", valid " + ", ".join(f"{k} {v:.4f}" for k, v in values.items())
            for player in self.players.values():
                player.observe(curves.steering(values))
            self.stopped = self.valid.should_stop(self, values)
        self.context.progress.update(self.steps_done, self.total_steps, text)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluation mode, with the weights that would be kept if training ended now."""
        with contextlib.ExitStack() as stack, torch.no_grad():
            for player in self.players.values():
                stack.enter_context(player.showing_final())
            modes = [(m, m.training) for n in self.networks.values() for m in n.modules()]
            for network in self.networks.values():
                network.eval()
            try:
                yield
            finally:
                for module, training in modes:
                    module.training = training

    # -- checkpoints ------------------------------------------------------------------------

    def _maybe_checkpoint(self) -> None:
        if self._checkpoints is None or self.done:
            return
        if time.monotonic() - self._saved_at >= CHECKPOINT_SECONDS:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Write one now."""
        if self._checkpoints is not None:
            self._checkpoints.save(self.steps_done, saving.snapshot(self))
            self._saved_at = time.monotonic()

    def _restore(self) -> None:
        if self._checkpoints is None:
            return
        found, complaints = self._checkpoints.latest()
        for complaint in complaints:
            self.context.progress.say(complaint)
        if found is None:
            self.context.metrics.cut(self.context.metrics.start)
            return
        saving.restore(self, found)
        self.context.progress.say(f"resumed at step {self.steps_done} of {self.total_steps}")

    # -- the end ----------------------------------------------------------------------------

    def finish(self) -> Model:
        """The trained model; nothing of the loop stays attached to its network."""
        self.close()
        if self.valid is not None:
            self.valid.keep_best(self)
        for player in self.players.values():
            largest = player.final().abs().max()
            self._must_be_finite({"largest weight": float(largest)})
        for player in self.players.values():
            player.detach()
        if self.feeder is not None:
            self.feeder.close()
        for module, rate in self._dropout:
            module.p = rate
        self.context.record(
            steps=self.steps_done,
            epochs=round(self.steps_done / self.steps_per_epoch, 4),
            batch=self.stage.batch * self._accumulate,
            rows=self.context.dataset.size("train"),
            moving=self.players[MODEL].size,
            **self._engine.facts(self.steps_done),
        )
        # what is measured later is computed as a freshly loaded network computes it
        use_attention(self.model.network, self._attention)
        self.model.network.eval()
        return self.model.without_files()


def train(
    stage: Answers,
    model: Model,
    context: RunContext,
    teachers: Mapping[str, Model] | None = None,
) -> Model:
    """Run a training stage from its start, or from its last checkpoint, to its end.

    Args:
        stage: objective, parameters, step, place and the rest of the stage's settings.
        model: the model to start from; it is not changed.
        context: data, seeds, folders.
        teachers: models to learn from, see `Setup.teachers`.

    Returns:
        A new model.
    """
    torch.set_num_threads(context.threads)
    job = Job(stage, model, context, teachers)
    try:
        stage.place.run(job)
        return job.finish()
    finally:
        job.close()
