"""The parts of the four columns: what is learnt, which parameters move, how a step is taken, where.

Each part is a frozen, registered config. Its state is explicit: `init` makes it, `update` gets it,
the loop saves it. Parts never import each other.

Shapes: C clients (1 locally), P moving parameters of a player, N rows of a batch, U privacy units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

from pydantic import Field, field_validator

from assay.claims import Capabilities, PlanContext
from assay.config import Config

if TYPE_CHECKING:
    import torch

    from assay.models.model import Model
    from assay.training.batches import Batch
    from assay.training.context import RunContext

#: the player nobody has to name
MODEL = "model"


@dataclass
class Setup:
    """What parts may look at when a training stage starts.

    Attributes:
        model: the model being trained, structures of `parameters` applied.
        networks: player -> its network (`model`, and those that terms added).
        context: the run's context (data, task, seeds, `bounded_sum`).
        total_steps: optimiser steps the stage will take.
        steps_per_epoch: optimiser steps in one epoch.
        teachers: models to learn from by name, see `assay.training.teachers`.
        source: where batches come from.
    """

    model: Model
    networks: dict[str, torch.nn.Module]
    context: RunContext
    total_steps: int = 0
    steps_per_epoch: int = 0
    teachers: dict[str, Model] = field(default_factory=dict)
    source: Any = None


@dataclass
class Losses:
    """What a term returns: for each player, losses of rows and the unit each row belongs to.

    Attributes:
        rows: player -> `[M]` losses (any M: a unit may have several).
        units: player -> `[M]` indices into the batch's units; a missing player uses `batch.units`.
        metrics: scalars to log (detached).
    """

    rows: dict[str, torch.Tensor]
    units: dict[str, torch.Tensor] = field(default_factory=dict)
    metrics: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass
class Call:
    """One evaluation of the objective on one (micro-)batch.

    Attributes:
        batch: the batch.
        setup: the stage's set-up.
        step: the optimiser step, from 0.
        forward: (player, inputs or None) -> outputs; the plain forward on the batch is computed
            once however many terms ask for it.
        generator: name -> a torch generator seeded by (seed, stage, step, name).
        training: False when a loss is computed for a curve only.
        captured: what the modules that terms `watch` gave in the plain forward, once `outputs` was
            asked for.
    """

    batch: Batch
    setup: Setup
    step: int
    forward: Callable[..., torch.Tensor]
    generator: Callable[[str], torch.Generator]
    training: bool = True
    captured: dict[str, Any] = field(default_factory=dict)

    @property
    def outputs(self) -> torch.Tensor:
        """Outputs of the player `model` on the batch, `[N, K]`."""
        return self.forward(MODEL)


class Term(Config):
    """A term of the objective. Registered as kind `term`.

    Attributes:
        weight: factor of this term in the sum.
    """

    shorthand: ClassVar[str | None] = "weight"
    weight: float = Field(default=1.0, ge=0.0)

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls()]

    def capabilities(self, context: PlanContext) -> Capabilities:
        """What the term needs, gives and breaks."""
        return Capabilities()

    def networks(self, setup: Setup) -> dict[str, torch.nn.Module]:
        """Networks that exist only for this term: player -> network (already initialised)."""
        return {}

    def watch(self, setup: Setup) -> tuple[str, ...]:
        """Modules of the model whose outputs the term needs in `Call.captured`."""
        return ()

    def source(self, setup: Setup) -> Any:
        """Where batches come from, if this term makes its own (a `sources.Source`); else None."""

    def init(self, setup: Setup) -> Any:
        """What the term needs for its work (a teacher, its cached outputs); rebuilt on resume."""
        return None

    def asks(self) -> tuple[str, ...]:
        """What it asks of `context.door` on the training rows, in words, for the plan."""
        return ()

    def lineage(self, setup: Setup) -> dict[str, str]:
        """Models that the term reads: name -> digest of its passport, for `context.record`."""
        return {}

    def loss(self, call: Call, state: Any) -> Losses:
        """Losses of rows, for each player."""
        raise TypeError(f"{type(self).__name__} gives no loss")


class Parameters(Config):
    """Which parameters move. Registered as kind `parameters`."""

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls()]

    def capabilities(self, context: PlanContext) -> Capabilities:
        """What the choice needs, gives and breaks."""
        return Capabilities()

    def describe(self) -> str:
        """In words, for the plan."""
        return self.part_name

    def structures(self, context: PlanContext) -> tuple[str, ...]:
        """Part names of the structures that `prepare` will add."""
        return ()

    def prepare(self, model: Model, seed: int) -> Model:
        """The model with whatever structure this choice needs (adapters); by default itself."""
        return model

    def select(self, model: Model) -> list[str]:
        """Names (as in `network.named_parameters()`) of the parameters that move."""
        raise TypeError(f"{type(self).__name__} selects nothing")


Slot = Literal["optimiser", "schedule", "gradient", "weights", "setting"]


class StepPart(Config):
    """One brick of how a step is taken. Registered as kind `step`.

    Buffers are `[C, P]` float32 tensors (a segment of them for optimisers, one call a segment of
    equal rate and decay). Updates work in place on the buffers that they are handed and keep no
    other state: state is the dict of tensors that `init` returned, and is saved with checkpoints.

    The order within a step: gradients, support mask, `gradient` parts in the order written,
    schedule, optimiser, support mask, `weights` parts.
    """

    slot: ClassVar[Slot] = "setting"
    #: the training rows are read through a private mechanism, which is charged
    private: ClassVar[bool] = False

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls()]

    def check(self, network: torch.nn.Module) -> None:
        """Refuse a network that it cannot train; parameters that move have `requires_grad`."""

    def source(self, setup: Setup, rows: Any, batches: int) -> Any:
        """Where batches come from, if this brick draws them in its own way; else None.

        Args:
            setup: of the stage.
            rows: the source without it.
            batches: how many of its batches make a step.
        """

    def engine(self, setup: Setup) -> Any:
        """How gradients are computed, if this brick needs its own way (an `Engine`); else None."""

    def capabilities(self, context: PlanContext) -> Capabilities:
        """What the brick needs, gives and breaks."""
        return Capabilities()


class Optimiser(StepPart):
    """Turns a gradient into an update of the parameters.

    Attributes:
        lr: base rate.
        weight_decay: decoupled or L2, as the optimiser's paper has it; not applied to biases and
            norms unless `decay_all`.
        decay_all: decay biases and norms too.
        rates: glob over parameter names -> factor on `lr` (`{"head.*": 10}`); the last match wins.
        layer_decay: factor per block from the top (1: none): lower blocks learn more slowly.
    """

    slot: ClassVar[Slot] = "optimiser"
    lr: float = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    decay_all: bool = False
    rates: dict[str, float] = Field(default_factory=dict)
    layer_decay: float = Field(default=1.0, gt=0, le=1)

    def init(self, params: torch.Tensor) -> dict[str, torch.Tensor]:
        """State for a segment `[C, S]` of the parameters."""
        raise TypeError

    def update(
        self,
        params: torch.Tensor,
        gradient: torch.Tensor,
        state: Mapping[str, torch.Tensor],
        *,
        step: int,
        lr: float,
        weight_decay: float,
    ) -> None:
        """One update in place. `step` counts from 1; `lr` and `weight_decay` are the segment's."""
        raise TypeError


class Schedule(StepPart):
    """Drives the rate over a stage.

    Attributes:
        warmup: steps (>= 1) or share of all steps (< 1) over which the rate rises linearly from 0.
    """

    slot: ClassVar[Slot] = "schedule"
    warmup: float = Field(default=0.0, ge=0)

    @field_validator("warmup")
    @classmethod
    def _whole_steps(cls, warmup: float) -> float:
        if warmup > 1 and warmup != round(warmup):
            raise ValueError("a warm-up of more than one step is a whole number; round it")
        return warmup

    def factor(self, step: int, total: int, state: Mapping[str, float]) -> float:
        """Factor on `lr` for a step (from 0) of `total`."""
        raise TypeError

    def observe(self, value: float, state: dict[str, float]) -> None:
        """Told the validation loss after each epoch (only `plateau` listens)."""

    @property
    def observes(self) -> bool:
        """Whether validation losses steer it (a reading that influences weights)."""
        return False


class GradientPart(StepPart):
    """Transforms the gradient before the optimiser sees it."""

    slot: ClassVar[Slot] = "gradient"

    def init(self, params: torch.Tensor) -> dict[str, torch.Tensor]:
        """State for the parameters `[C, P]`."""
        return {}

    def update(
        self,
        gradient: torch.Tensor,
        params: torch.Tensor,
        state: Mapping[str, torch.Tensor],
        *,
        step: int,
    ) -> dict[str, torch.Tensor]:
        """Transform `gradient` in place; return scalars to log."""
        raise TypeError


class WeightsPart(StepPart):
    """Follows the parameters and gives those that are evaluated and kept at the end."""

    slot: ClassVar[Slot] = "weights"

    def init(self, params: torch.Tensor) -> dict[str, torch.Tensor]:
        """State for the parameters `[C, P]`."""
        raise TypeError

    def update(self, params: torch.Tensor, state: Mapping[str, torch.Tensor], *, step: int) -> None:
        """Called after each optimiser update; `step` counts from 1."""
        raise TypeError

    def final(self, params: torch.Tensor, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The parameters `[C, P]` to evaluate and keep."""
        raise TypeError


class Setting(StepPart):
    """A setting that the loop itself obeys (precision, accumulation, early stopping)."""

    slot: ClassVar[Slot] = "setting"

    @property
    def observes(self) -> bool:
        """Whether validation losses steer it (a reading that influences a choice)."""
        return False


class Place(Config):
    """Where training runs. Registered as kind `place`."""

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls()]

    def capabilities(self, context: PlanContext) -> Capabilities:
        """What the place needs, gives and breaks."""
        return Capabilities()

    def run(self, job: Any) -> None:
        """Drive the job (see `assay.training.loop.Job`) to its end."""
        raise TypeError(f"{type(self).__name__} runs nothing")


class Answers(Protocol):
    """What a training stage answers: the four questions, and for how long."""

    @property
    def part_name(self) -> str:
        """The stage's registered name."""

    @property
    def objective(self) -> Any:
        """What is learnt: terms."""

    @property
    def parameters(self) -> Any:
        """Which parameters move."""

    @property
    def step(self) -> Any:
        """How a step is taken: step parts."""

    @property
    def place(self) -> Any:
        """Where it runs."""

    @property
    def augment(self) -> Any:
        """Augmentations of the inputs, in order."""

    @property
    def cached_views(self) -> int:
        """Views of each row that are drawn once and cached; 0 for new ones in every epoch."""

    @property
    def epochs(self) -> float:
        """Passes over the rows."""

    @property
    def batch(self) -> int:
        """Rows a batch."""

    @property
    def curves(self) -> bool:
        """Whether the validation split is measured after each epoch."""

    @property
    def players(self) -> Any:
        """Settings of players other than the model."""

    def parts(self) -> list[tuple[str, Any]]:
        """Every part of the four columns, as the user wrote it."""
