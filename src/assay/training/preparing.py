"""What a job is made of: source, players, kernel and frozen prefix, from a stage's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from assay.claims.capabilities import of
from assay.errors import UsageError
from assay.files import write_json
from assay.training import tuning
from assay.training.augmentation import PIXELS
from assay.training.engines.autograd import Autograd, Engine
from assay.training.feeding import Feeder, View
from assay.training.parts import MODEL, Answers, Setup
from assay.training.player import Player
from assay.training.prefix import Inputs, find_prefix
from assay.training.sources import RowSource, Source
from assay.training.tuning import Kernel

if TYPE_CHECKING:
    from assay.models.model import Model
    from assay.training.context import RunContext


#: rows of the batch on which kernels are timed: enough to rank them. A few texts are many tokens;
#: a few images are all overhead
_TIMED_ROWS = 64
_TIMED_TEXTS = 16


def set_dropout(network: nn.Module, part: Any) -> list[tuple[nn.modules.dropout._DropoutNd, float]]:
    """Give every dropout of the network the rate of the `dropout` setting.

    Returns:
        The modules and the rates they had.
    """
    if part is None:
        return []
    found = [(m, m.p) for m in network.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
    for module, _ in found:
        module.p = part.rate
    return found


def source(stage: Answers, setup: Setup, batches: int) -> tuple[Source, Source]:
    """Where batches come from: a term's own source, else the training rows; and how a step part
    draws from it, where one has its own way.

    Args:
        stage: with its parts.
        setup: of the stage.
        batches: batches a step.

    Returns:
        What the steps take, and what it is drawn from (mostly the same).
    """
    own = [found for term in stage.objective if (found := term.source(setup)) is not None]
    plain = own[0] if own else row_source(stage, setup.model, setup.context)
    drawn = [got for p in stage.step if (got := p.source(setup, plain, batches)) is not None]
    return (drawn[0] if drawn else plain), plain


def row_source(stage: Answers, model: Model, context: RunContext) -> RowSource:
    """The training rows, encoded."""
    data = context.dataset
    return RowSource(
        model.preprocessing.encode(data.rows("train")),
        model.preprocessing.learnt_targets(data.targets("train")),
        data.units("train"),
        stage.batch,
        context.derive("source"),
    )


def engine(stage: Answers, setup: Setup) -> Engine:
    """The engine that a step part brings, else the plain one."""
    brought = [found for part in stage.step if (found := part.engine(setup)) is not None]
    return brought[0] if brought else Autograd()


def players(stage: Answers, model: Model, networks: dict[str, nn.Module]) -> dict[str, Player]:
    """One player a network; those that terms brought move whole."""
    found = {}
    for name, network in networks.items():
        if name == MODEL:
            moving = stage.parameters.select(model)
            found[name] = Player(name, network, moving, stage.step, model.support(), model.blocks())
            continue
        chosen = stage.players.get(name)
        moving = [n for n, _ in network.named_parameters()]
        step = chosen.step if chosen is not None else stage.step
        found[name] = Player(name, network, moving, step, {}, [])
    return found


def synthetic(model: Model, rows: int, stretch: float = 0.5) -> dict[str, torch.Tensor]:
    """Inputs of the network's shape that hold no data; `stretch` of the longest length."""
    made = model.preprocessing.synthetic(rows, stretch)
    return {name: torch.from_numpy(value) for name, value in made.items()}


def kernel(stage: Answers, model: Model, context: RunContext, moving: set[str]) -> Kernel:
    """The kernel that this stage began with, else the fastest of those allowed."""
    part = next((p for p in stage.step if p.part_name == "precision"), None)
    needs = {need for _, p in stage.parts() for need in of(p, context.plan).needs}
    options = tuning.kernels(
        model.network,
        part.mode if part is not None else "auto",
        part.memory_format if part is not None else "auto",
        "full_precision" in needs,
        "inner_maps" in needs,
    )
    chosen = tuning.remembered(options, context.used, context.work)
    seconds: dict[str, float] = {}
    if chosen is None:
        text = model.task.modality == "text"
        inputs = synthetic(model, min(stage.batch, _TIMED_TEXTS if text else _TIMED_ROWS))
        chosen, seconds = tuning.tune(
            model.network, moving, inputs, options, context.tuning, context.threads
        )
    if context.work is not None:
        write_json(context.work / "kernel.json", chosen.facts())
    context.record(**chosen.facts())
    if seconds:
        shown = ", ".join(f"{name} {1000 * s:.1f} ms" for name, s in seconds.items())
        context.progress.say(f"tuned to {chosen.name}: a step takes {shown}")
    return chosen


def feeder(
    stage: Answers,
    model: Model,
    context: RunContext,
    moving: set[str],
    kernel: Kernel,
    rows: Source,
) -> Feeder | None:
    """Find the frozen prefix; feed the network from a cache of it unless a part forbids it."""
    samples = [synthetic(model, 3, 0.25), synthetic(model, 2, 0.5)]
    prefix = find_prefix(model.network, moving, samples)
    if prefix is None:
        _must_cache(stage, cached=False)
        return None
    views = drawn_views(stage, context)
    # views that are drawn once can be cached: what draws them forbids nothing then
    parts = [p for _, p in stage.parts() if not (views and p in stage.augment)]
    forbidden = any("prefix_cache" in of(p, context.plan).breaks for p in parts)
    cached = isinstance(rows, RowSource) and not forbidden
    _must_cache(stage, cached)
    found = Feeder(prefix, kernel, context.work, cached)
    if cached and isinstance(rows, RowSource):
        context.progress.say(f"frozen up to {prefix.cut}: run once, fed from a cache")
        context.record(frozen_prefix=prefix.cut)
        found.feed_source(rows, views)
    return found


def _must_cache(stage: Answers, cached: bool) -> None:
    """Views are drawn once for a cache's sake: without one they would be others than was said.

    Raises:
        UsageError: `cached_views` is set and nothing can be cached.
    """
    if stage.cached_views and not cached:
        raise UsageError(
            "there is no frozen part of the network whose outputs could be cached",
            where="cached_views",
            mend="leave out cached_views, or let fewer parameters move (parameters: head)",
        )


def drawn_views(stage: Answers, context: RunContext) -> list[View]:
    """The views of `cached_views`, each a function of the rows alone."""

    def view(k: int) -> View:
        def show(inputs: Inputs, rows: torch.Tensor) -> Inputs:
            pixels = inputs[PIXELS]
            for place, part in enumerate(stage.augment):
                seed = context.derive("view", k, int(rows[0]), place, part.part_name)
                pixels = part.images(pixels, torch.Generator().manual_seed(seed))
            return {**inputs, PIXELS: pixels}

        return show

    return [view(k) for k in range(stage.cached_views)]


def freeze_norms(network: nn.Module) -> None:
    """A batch norm whose parameters do not move must not move its running statistics either.

    One that has no parameters moves only where everything does.
    """
    everything = all(p.requires_grad for p in network.parameters())
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            own = [p.requires_grad for p in module.parameters()]
            if not (any(own) if own else everything):
                module.eval()
