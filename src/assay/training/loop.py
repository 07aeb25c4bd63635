"""The one loop that every training stage runs.

    job = Job(stage, model, context)        # parts are initialised, or restored from a checkpoint
    place.run(job):
        until job.done:
            job.step():
                for each micro-batch from the source:              (where from)
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
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from assay.claims.capabilities import of
from assay.errors import UsageError
from assay.training import curves
from assay.training.batches import Batch, to_units
from assay.training.checkpoint import Checkpoint, Checkpoints
from assay.training.engines.autograd import Autograd
from assay.training.parts import MODEL, Call, Setup
from assay.training.player import Player
from assay.training.feeding import Feeder
from assay.training.meter import Meter
from assay.training.prefix import find_prefix
from assay.training.sources import RowSource, Source
from assay.training.tuning import Kernel, tune

if TYPE_CHECKING:
    from assay.data.preprocessing import Encoded
    from assay.models.model import Model
    from assay.stages.training import TrainingStage
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

    def __init__(self, stage: TrainingStage, model: Model, context: RunContext) -> None:
        self.stage, self.context = stage, context
        self.model = stage.parameters.prepare(model.copy(), context.derive("structure"))
        self._networks: dict[str, torch.nn.Module] = {MODEL: self.model.network}
        self._settings = {p.part_name: p for p in stage.step if p.slot == "setting"}
        self._set_dropout()
        encoded = self.model.preprocessing.encode(context.dataset.rows("train"))
        self.source: Source = self._make_source(encoded)
        accumulate = self._settings.get("accumulate")
        self._accumulate = accumulate.batches if accumulate is not None else 1
        self.steps_per_epoch = -(-self.source.steps_per_epoch // self._accumulate)
        self.total_steps = max(1, math.ceil(stage.epochs * self.steps_per_epoch))
        self.setup = Setup(
            model=self.model,
            networks=self._networks,
            context=context,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
        )
        for term in stage.objective:
            self._networks.update(term.networks(self.setup))
        self.players = self._make_players()
        self.kernel = self._tune()
        for player in self.players.values():
            player.attach(self.kernel.channels_last)
        self.feeder = self._find_prefix()
        self._terms = [(term, term.init(self.setup)) for term in stage.objective]
        lineage = {k: v for t in stage.objective for k, v in t.lineage(self.setup).items()}
        if lineage:
            context.record(teachers=lineage)
        self._engine = Autograd()
        self._valid = curves.Validation.make(self)
        self._state = self.source.init()
        self.steps_done, self.stopped = 0, False
        self._interval, self._epoch = Meter(), Meter()
        self._base_seed = context.derive("step") % (1 << 62)
        self._log_every = max(1, self.total_steps // _LOGGED_LINES)
        self._checkpoints = Checkpoints(context.work) if context.work is not None else None
        self._saved_at = time.monotonic()
        self._stack = contextlib.ExitStack()
        self._restore()

    # -- set-up -----------------------------------------------------------------------------

    def _make_source(self, encoded: Encoded) -> RowSource:
        data = self.context.dataset
        targets = self.model.preprocessing.learnt_targets(data.targets("train"))
        return RowSource(
            encoded,
            targets,
            data.units("train"),
            self.stage.batch,
            self.context.derive("source"),
        )

    def _make_players(self) -> dict[str, Player]:
        players = {}
        for name, network in self._networks.items():
            chosen = self.stage.players.get(name)
            if name == MODEL:
                moving = self.stage.parameters.select(self.model)
                step, support = self.stage.step, self.model.support()
                blocks = self.model.blocks()
            else:
                moving = [n for n, _ in network.named_parameters()]
                step, support = (chosen.step if chosen else self.stage.step), {}
                blocks = []
            players[name] = Player(name, network, moving, step, support, blocks)
        return players

    def _set_dropout(self) -> None:
        part = self._settings.get("dropout")
        self._dropout: list[tuple[torch.nn.Dropout, float]] = []
        if part is None:
            return
        for module in self.model.network.modules():
            if isinstance(module, torch.nn.Dropout):
                self._dropout.append((module, module.p))
                module.p = part.rate

    def _tune(self) -> Kernel:
        part = self._settings.get("precision")
        mode = part.mode if part is not None else "auto"
        layout = part.memory_format if part is not None else "auto"
        needs_full = any(
            "full_precision" in of(p, self.context.plan).needs for _, p in self.stage.parts()
        )
        precisions = {"fp32": ("fp32",), "bf16": ("bf16",), "auto": ("fp32", "bf16")}[mode]
        if mode == "auto" and needs_full:
            precisions = ("fp32",)
        convolutional = any(p.dim() == 4 for p in self.model.network.parameters())
        layouts = {"auto": (False, True), "contiguous": (False,), "channels_last": (True,)}[layout]
        if layout == "auto" and not convolutional:
            layouts = (False,)
        kernel, seconds = tune(
            self.model.network,
            set(self.players[MODEL].moving),
            self._synthetic(self.stage.batch),
            precisions,
            layouts,
            self.context.tuning,
            self.context.threads,
        )
        self.context.record(precision=kernel.precision, channels_last=kernel.channels_last)
        if seconds:
            shown = ", ".join(f"{name} {1000 * s:.1f} ms" for name, s in seconds.items())
            self.context.progress.say(f"tuned to {kernel.precision}: a step takes {shown}")
        return kernel

    def _synthetic(self, rows: int, stretch: float = 0.5) -> dict[str, torch.Tensor]:
        """Inputs of a network's shape that hold no data; `stretch` of the longest length."""
        made = self.model.preprocessing.synthetic(rows, stretch)
        return {name: torch.from_numpy(value) for name, value in made.items()}

    def _find_prefix(self) -> Feeder | None:
        """Find the frozen prefix; feed the network from a cache of it unless a part forbids it."""
        moving = set(self.players[MODEL].moving)
        samples = [self._synthetic(3, 0.25), self._synthetic(2, 0.5)]
        prefix = find_prefix(self.model.network, moving, samples)
        if prefix is None:
            return None
        plan = self.context.plan
        allowed = isinstance(self.source, RowSource) and not any(
            "prefix_cache" in of(part, plan).breaks for _, part in self.stage.parts()
        )
        feeder = Feeder(prefix, self.kernel, self.context.work, cached=allowed)
        if allowed:
            self.context.progress.say(f"frozen up to {prefix.cut}: run once, fed from a cache")
            self.context.record(frozen_prefix=prefix.cut)
            feeder.feed_source(self.source)  # type: ignore[arg-type]
        return feeder

    # -- a step -----------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether the stage has taken its steps, or was stopped early."""
        return self.stopped or self.steps_done >= self.total_steps

    def step(self) -> None:
        """One optimiser step."""
        if self.steps_done == 0 or not self._stack_open:
            self._open()
        batches = self._next_batches()
        rows = sum(len(batch) for batch in batches)
        metrics: dict[str, float] = {}
        for player in self.players.values():
            player.flat.zero_grad()
        for index, batch in enumerate(batches):
            torch.default_generator.manual_seed(
                (self._base_seed + self.steps_done * self._accumulate + index) % (1 << 62)
            )
            losses, logged = self.objective(batch, training=True)
            scaled = {name: loss.sum() / rows for name, loss in losses.items()}
            self._engine.backward(scaled, {n: p.flat for n, p in self.players.items()})
            for name, loss in scaled.items():
                key = "loss" if name == MODEL else f"loss.{name}"
                metrics[key] = metrics.get(key, 0.0) + float(loss.detach())
            for name, value in logged.items():
                metrics[name] = metrics.get(name, 0.0) + float(value) / len(batches)
        rate = 0.0
        for player in self.players.values():
            rate, more = player.update(self.steps_done, self.total_steps)
            metrics.update(more)
        self.steps_done += 1
        self._log(metrics, rate)
        if self.steps_done % self.steps_per_epoch == 0 or self.done:
            self._end_epoch()
        self._maybe_checkpoint()

    def _next_batches(self) -> list[Batch]:
        batches = []
        for _ in range(self._accumulate):
            epoch = self._state.get("epoch")
            batch, self._state = self.source.next(self._state, self.model)
            batches.append(batch)
            if self._state.get("epoch") != epoch:
                break  # an update never mixes two epochs
        return batches

    def forward(self, inputs: dict[str, torch.Tensor], player: str = MODEL) -> torch.Tensor:
        """Outputs `[N, K]` in float32, computed with the tuned kernel and the cached prefix."""
        if self.feeder is not None:
            inputs = self.feeder.unpack(inputs)
        with self.kernel.autocast():
            result: torch.Tensor = self._networks[player](**inputs)
        return result.float()

    def objective(
        self, batch: Batch, training: bool
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Losses of units `[U]` for each player, and scalars to log."""
        outputs: dict[str, torch.Tensor] = {}

        def forward(player: str, inputs: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
            if inputs is not None:
                return self.forward(inputs, player)
            if player not in outputs:
                outputs[player] = self.forward(batch.inputs, player)
            return outputs[player]

        def generator(name: str) -> torch.Generator:
            seed = self.context.derive("term", self.steps_done, name)
            return torch.Generator().manual_seed(seed)

        call = Call(batch, self.setup, self.steps_done, forward, generator, training)
        total: dict[str, torch.Tensor] = {}
        logged: dict[str, torch.Tensor] = {}
        single = len(self._terms) == 1
        for term, state in self._terms:
            losses = term.loss(call, state)
            logged.update(losses.metrics)
            for player, rows in losses.rows.items():
                units = losses.units.get(player)
                if units is None:
                    units = batch.units
                    rows = rows * batch.weights
                loss = to_units(rows, units, batch.n_units)
                if term.weight != 1.0:
                    loss = loss * term.weight
                total[player] = total[player] + loss if player in total else loss
                if not single and player == MODEL:
                    logged[f"loss.{term.part_name}"] = loss.detach().mean()
        return total, logged

    # -- between steps ----------------------------------------------------------------------

    _stack_open = False

    def _open(self) -> None:
        """Enter training mode; the prefix stays in evaluation mode and, if cached, is skipped."""
        self._stack_open = True
        for network in self._networks.values():
            network.train()
            _freeze_norms(network)
        if self.feeder is not None:
            self._stack.enter_context(self.feeder.feeding())

    def _log(self, metrics: dict[str, float], rate: float) -> None:
        self._interval.add(metrics)
        self._epoch.add(metrics)
        if not math.isfinite(metrics.get("loss", 0.0)):
            raise UsageError(
                f"the loss is {metrics['loss']} at step {self.steps_done}",
                where=f"stages[{self.context.stage}].{self.stage.part_name}",
                mend="lower lr, add warm-up or clip_norm, or set precision: fp32",
            )
        if self.steps_done % self._log_every == 0:
            means = self._interval.take()
            self._write(kind="step", split="train", lr=rate, **means)
            text = f"loss {means['loss']:.4f}" if "loss" in means else ""
            self.context.progress.update(self.steps_done, self.total_steps, text)

    def _write(self, **values: Any) -> None:
        epoch = round(self.steps_done / self.steps_per_epoch, 4)
        self.context.metrics.write(
            stage=self.context.stage, step=self.steps_done, epoch=epoch, **values
        )

    def _end_epoch(self) -> None:
        means = self._epoch.take()
        self._write(kind="epoch", split="train", **means)
        epoch = self.steps_done / self.steps_per_epoch
        text = f"epoch {epoch:g}: loss {means.get('loss', math.nan):.4f}"
        if self._valid is not None:
            with self.evaluating():
                values = self._valid.measure(self)
            self._write(kind="epoch", split="valid", **values)
            text += ", valid " + ", ".join(f"{k} {v:.4f}" for k, v in values.items())
            for player in self.players.values():
                player.observe(values["loss"])
            self.stopped = self._valid.should_stop(self, values)
        self.context.progress.update(self.steps_done, self.total_steps, text)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluation mode, with the weights that would be kept if training ended now."""
        with contextlib.ExitStack() as stack, torch.no_grad():
            for player in self.players.values():
                stack.enter_context(player.showing_final())
            modes = [(m, m.training) for n in self._networks.values() for m in n.modules()]
            for network in self._networks.values():
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
            self._checkpoints.save(self.steps_done, self._snapshot())
            self._saved_at = time.monotonic()

    def _snapshot(self) -> Checkpoint:
        tensors: dict[str, torch.Tensor] = {}
        state: dict[str, Any] = {
            "steps_done": self.steps_done,
            "source": self._state,
            "interval": self._interval.state(),
            "epoch": self._epoch.state(),
            "metrics": self.context.metrics.size(),
            "kernel": [self.kernel.precision, self.kernel.channels_last],
            "players": {},
        }
        for name, player in self.players.items():
            held, plain = player.state()
            tensors.update({f"{name}/{k}": v for k, v in held.items()})
            state["players"][name] = plain
        if self._valid is not None:
            held, state["valid"] = self._valid.state()
            tensors.update({f"valid/{k}": v for k, v in held.items()})
        return Checkpoint(tensors, state)

    def _restore(self) -> None:
        if self._checkpoints is None:
            return
        checkpoint, complaints = self._checkpoints.latest()
        for complaint in complaints:
            self.context.progress.say(complaint)
        if checkpoint is None:
            self.context.metrics.cut(self.context.metrics.start)
            return
        state, tensors = checkpoint.state, checkpoint.tensors
        self.steps_done = state["steps_done"]
        self._state = state["source"]
        self._interval.restore(state["interval"])
        self._epoch.restore(state["epoch"])
        self.context.metrics.cut(state["metrics"])
        for name, player in self.players.items():
            prefix = f"{name}/"
            player.restore(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)},
                state["players"][name],
            )
        if self._valid is not None:
            self._valid.restore(
                {k.removeprefix("valid/"): v for k, v in tensors.items() if k.startswith("valid/")},
                state["valid"],
            )
        self.context.progress.say(f"resumed at step {self.steps_done} of {self.total_steps}")

    # -- the end ----------------------------------------------------------------------------

    def finish(self) -> Model:
        """The trained model; nothing of the loop stays attached to its network."""
        self._stack.close()
        if self._valid is not None:
            self._valid.keep_best(self)
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
        )
        self.model.network.eval()
        return self.model.without_files()


def _freeze_norms(network: torch.nn.Module) -> None:
    """A batch norm whose parameters do not move must not move its running statistics either."""
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and not any(
            p.requires_grad for p in module.parameters()
        ):
            module.eval()


def train(stage: TrainingStage, model: Model, context: RunContext) -> Model:
    """Run a training stage from its start, or from its last checkpoint, to its end.

    Args:
        stage: objective, parameters, step, place and the rest of the stage's settings.
        model: the model to start from; it is not changed.
        context: data, seeds, folders.

    Returns:
        A new model.
    """
    torch.set_num_threads(context.threads)
    job = Job(stage, model, context)
    try:
        stage.place.run(job)
        return job.finish()
    finally:
        job._stack.close()
