"""What every training stage has: the four questions, and the claims that training leaves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from assay import registry
from assay.claims import Capabilities, Claim, Effects, Estimate, PlanContext, Read
from assay.claims.claim import Status
from assay.config import Config, PartField, build_part
from assay.stages.base import Stage, close
from assay.training.checking import check_step

if TYPE_CHECKING:
    from assay.models.model import Model
    from assay.training.context import RunContext

#: the kind of claim that private steps leave
EPSILON = "privacy.epsilon"
#: floating-point operations a second that one core is assumed to do, for estimates before a build
_FLOPS = 4.0e10


class PlayerSettings(Config):
    """How a player other than the model takes its steps.

    Attributes:
        step: its step parts.
    """

    step: Annotated[Any, PartField("step", many=True, default={"adamw": {"lr": 1e-3}})] = None


class TrainingStage(Stage):
    """Answers the four questions; every training stage runs the one loop.

    Attributes:
        objective: what is learnt: a weighted sum of terms.
        parameters: which parameters move.
        step: how a step is taken.
        place: where it runs.
        augment: other views of the images, in training only, in the order written.
        cached_views: 0 shows new views in every epoch; K draws K views of each image once, so that
            a frozen prefix runs K times for an image, however many epochs there are.
        epochs: passes over the training rows (may be a fraction).
        batch: rows a batch.
        curves: measure the validation split after each epoch.
        players: settings of players other than the model.
    """

    objective: Annotated[Any, PartField("term", many=True, default="supervised")] = None
    parameters: Annotated[Any, PartField("parameters", default="full")] = None
    step: Annotated[Any, PartField("step", many=True, default={"adamw": {"lr": 1e-3}})] = None
    place: Annotated[Any, PartField("place", default="local")] = None
    augment: Annotated[Any, PartField("augmentation", many=True)] = None
    cached_views: int = Field(default=0, ge=0, le=256)
    epochs: float = Field(default=3, gt=0)
    batch: int = Field(default=32, ge=1)
    curves: bool = True
    players: dict[str, PlayerSettings] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _the_parts_make_a_step(self) -> Self:
        if not self.objective:
            raise ValueError("nothing to learn; name a term of the objective, such as supervised")
        batches = [part.part_name for part in self.augment if not part.single]
        if self.cached_views and (batches or not self.augment):
            why = f"{batches[0]} makes other batches" if batches else "nothing is augmented"
            raise ValueError(f"{why}, so there are no views to cache; leave out cached_views")
        for step in (self.step, *(player.step for player in self.players.values())):
            for refusal in check_step(step):
                raise ValueError(f"{refusal.what}; {refusal.mend}")
        return self

    @classmethod
    def examples(cls) -> list[Self]:
        """One for each part on which depends what is declared: terms, choices of parameters, and
        step parts that watch the validation rows.
        """
        made: list[dict[str, Any]] = []
        for kind, field in (("term", "objective"), ("parameters", "parameters")):
            for part in _examples(kind):
                made.append({field: (part,) if kind == "term" else part})
        adamw = build_part("step", {"adamw": 0.01})
        made += [{"step": (adamw, part)} for part in _examples("step") if _observes(part)]
        return [cls(**{"epochs": 1, "batch": 16, **settings}) for settings in made]

    def parts(self) -> list[tuple[str, Any]]:
        """Every part of the four columns, as the user wrote it."""
        return [
            *((f"objective.{p.part_name}", p) for p in self.objective),
            (f"parameters.{self.parameters.part_name}", self.parameters),
            *((f"augment.{p.part_name}", p) for p in self.augment),
            *((f"step.{p.part_name}", p) for p in self.step),
            (f"place.{self.place.part_name}", self.place),
        ]

    def capabilities(self, context: PlanContext) -> Capabilities:
        """Weights under a mask stay zero, so training takes nothing away. It needs gradients,
        which hardly pass a map that is flat nearly everywhere.
        """
        flat = "isotonic" in context.structures
        return Capabilities(
            needs=frozenset({"smooth_outputs"}),
            gives=frozenset(() if flat else {"smooth_outputs"}),
            why={
                "smooth_outputs": "gradients pass what follows the head (an isotonic map is flat)"
            },
            mend={"smooth_outputs": "calibrate after the last training, or by temperature"},
        )

    def effects(self, context: PlanContext) -> Effects:
        """Training changes the function: behaviour is void. It keeps what it provably keeps."""
        steering = [n for n, p in self.parts() if _observes(p)]
        private = self.private
        why = "private gradient steps" if private else "gradient steps"
        reads = [Read(split="train", influences=("weights",), why=why, private=private)]
        if context.data.private:
            reads.append(Read(split="train", influences=("report",), why="training losses"))
        reads += [
            Read(
                split="train",
                influences=("weights",),
                why=f"{n}: {why}",
                private=context.data.noised,
            )
            for n, p in self.parts()
            for why in _sums(p)
        ]
        if steering and "valid" in context.data.splits:
            why, noised = " and ".join(steering), context.data.noised
            reads.append(Read(split="valid", influences=("choice",), why=why, private=noised))
            if context.data.private:
                reads.append(Read(split="valid", influences=("report",), why="learning curve"))
        elif self.curves and "valid" in context.data.splits:
            reads.append(Read(split="valid", influences=("report",), why="learning curve"))
        added = tuple(self.parameters.structures(context))
        keeps: list[str] = ["lineage.*"]
        if not added:
            keeps += ["size.parameters", "size.bytes", "size.macs"]
        if "mask" in context.structures and not added:
            keeps.append("sparsity.*")
        if not context.data.private and not self._learns_from_others():
            keeps.append(EPSILON)
        return Effects(
            adds=(EPSILON,) if private and context.data.private else (),
            keeps=tuple(keeps),
            reads=tuple(reads),
            moves=self.parameters.describe(),
            structure_adds=added,
            notes=self._notes(context),
        )

    @property
    def private(self) -> bool:
        """Whether the training rows are read through a private mechanism."""
        return any(part.private for part in self.step)

    def _learns_from_others(self) -> bool:
        """Whether a term reads another model, whose spends nobody has added up."""
        return any(getattr(t, "teacher", None) not in (None, "current") for t in self.objective)

    def charges(self, units: int, data: str, unit: str, noise: float | None) -> list[Any]:
        """See `Stage.charges`: the private steps, and the sums that parts ask for."""
        from assay.privacy.events import Event

        together = next((p.batches for p in self.step if p.part_name == "accumulate"), 1)
        found = [
            part.event(units, self.batch * together, self.epochs, data, unit)
            for part in self.step
            if part.private
        ]
        asked = sum(len(_sums(part)) for _, part in self.parts())
        if any(_observes(part) for part in self.step):
            asked += math.ceil(self.epochs) + 1
        if asked and noise is not None:
            found.append(
                Event(noise_multiplier=noise, steps=asked, data=data, unit=unit, what="sums")
            )
        return found

    def _notes(self, context: PlanContext) -> tuple[str, ...]:
        found: list[str] = []
        rows = context.data.rows
        # a plan knows how many rows there are in all, not how they will be divided
        units = round(0.8 * rows) if rows else None
        together = next((p.batches for p in self.step if p.part_name == "accumulate"), 1)
        for part in self.step:
            if part.private and units is not None:
                found += part.forecast(units, self.batch * together, self.epochs)
        if self.private and not context.data.private:
            name = context.data.name
            found.append(f"{name} is not marked private (private: true): no epsilon is claimed")
        return tuple(found)

    def lasting(self, steps: int, rows: int) -> Self:
        """With so many whole epochs more that `rows` training rows give at least `steps` steps."""
        together = next((p.batches for p in self.step if p.part_name == "accumulate"), 1)
        # whole batches first, then whole updates of so many of them: as the loop counts
        batches = -(-rows // self.batch)
        epochs = max(self.epochs, -(-steps // -(-batches // together)))
        return self.model_copy(update={"epochs": epochs, "curves": False})

    def estimate(self, context: PlanContext) -> Estimate:
        """From the number of parameters and rows; `--deep` refines it with the real network."""
        n, rows = context.model.parameters, context.data.rows
        if n is None or rows is None:
            return Estimate(basis="unknown: the number of parameters or rows is not known yet")
        # a weight of a convolution works at many places, as one of a transformer at many tokens
        tokens = 1 if context.model.modality == "tabular" else 64
        dense = n * (0.45 if context.model.modality == "text" else 1.0)
        train = rows * 0.7
        operations = 6.0 * dense * tokens * train * self.epochs
        return Estimate(
            seconds=round(2 + operations / (2 * _FLOPS), 1),
            bytes=int(n * 4 * 5 + self.batch * tokens * 4096 * 16),
            basis=f"{n:,} parameters x {tokens} positions x {self.epochs:g} epochs, two cores",
        )

    def run(self, model: Model, context: RunContext) -> Model:
        """The one loop."""
        from assay.training.loop import train

        after = train(self, model, context)
        self.account(model, context)
        return after

    def account(self, model: Model, context: RunContext) -> None:
        """State what all private readings of the data cost by now, this stage's included.

        Args:
            model: the model that came in, with its passport.
            context: of the stage, which recorded what it used.
        """
        if not (self.private and context.plan.data.private) or model.passport.origin is None:
            return  # nothing is claimed of a model that is made for an audit alone
        from assay.privacy.composition import accounts, claim_of
        from assay.privacy.door import charged

        if sums := charged(context.door):
            context.record(charged=list(sums))
        reads = self.effects(context.plan).reads
        found = accounts(model.passport, stage=self.part_name, used=context.used, reads=reads)
        for account in found.values():
            if account.private and account.events:
                claim = claim_of(account)
                if claim is not None:
                    context.claim(claim)
                else:
                    why = account.unclaimed
                    context.progress.say(f"{account.data}: no epsilon is claimed, for {why}")

    def measure(self, model: Model, context: RunContext) -> None:
        """Compose anew what the passport recorded as used."""
        from assay.privacy.composition import accounts, claim_of

        if "private" not in context.used:
            return
        for account in accounts(model.passport).values():
            claim = claim_of(account) if account.private else None
            if claim is not None:
                context.claim(claim)

    def agrees(self, claim: Claim, again: Claim) -> Status:
        """An epsilon is the same to a thousandth; one that is none fails."""
        if claim.kind != EPSILON:
            return super().agrees(claim, again)
        if claim.value is None or again.value is None:
            return "fails"
        return "holds" if close(claim.value, again.value, 1e-3, 1e-3) else "fails"


def _examples(kind: str) -> list[Any]:
    """Canonical settings of every part of a kind."""
    known: list[Any] = list(registry.parts(kind).values())
    return [example for part in known for example in part.examples()]


def _observes(part: Any) -> bool:
    """Whether validation losses steer the part."""
    return bool(getattr(part, "observes", False))


def _sums(part: Any) -> tuple[str, ...]:
    """What a part asks of the one door, in words."""
    asks = getattr(part, "asks", None)
    return tuple(asks()) if asks is not None else ()
