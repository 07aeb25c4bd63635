"""The audit `transfer`: what starting from the pretrained weights brought, where labels are few."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, field_validator

from assay.audit.base import Audit, keep
from assay.claims import Capabilities, Claim, PlanContext, Read
from assay.claims.claim import Status
from assay.errors import UsageError
from assay.registry import register

if TYPE_CHECKING:
    from assay.audit.measures.transfer import Gain, Trained
    from assay.models.model import Model

#: seconds that a row takes to predict, roughly
_PREDICTION = {"text": 0.02, "image": 4e-3}
#: retrained on the same machine, a metric is the same up to this
_SAME = 1e-4


@register("audit", "transfer")
class TransferAudit(Audit):
    """The transfer gain: the stages before this one, run from the pretrained weights and from
    scratch on `k` labels a class.

    Both sides of a pair have the same labelled rows, seed, settings and least number of steps, and
    are judged on the same test rows. Claims `transfer.gain` for each `k` (conditions `k`, `seeds`,
    `min_steps`): the mean over the seeds of pretrained minus scratch, with an interval that is
    paired over seeds and over test rows. Both sides' values and the steps that they took are in the
    claim's details. Batch norms that a training moved get the plain average over its labelled rows
    as statistics, on both sides: their running averages would lag on the scratch side, and the
    lag would pass for a gain. The claim speaks of the recipe as it is: where `parameters` holds
    layers still, they stay as they were initialised on the scratch side.

    Attributes:
        k: labelled units a class (in all, for a regression).
        seeds: how often the labelled rows are drawn anew and both sides trained on them; few make
            the interval wide.
        metric: what is compared; the greater the better (`r2` for a regression).
        split: the rows that both are judged on.
        rows: at most so many of them, chosen by the seed; None for all.
        min_steps: every training stage takes at least so many optimiser steps: with few rows its
            epochs are that many more.
        bootstrap: resamples of the interval; 0 gives none.
        level: confidence level.
    """

    k: tuple[int, ...] = Field(default=(10, 50), min_length=1)
    seeds: int = Field(default=3, ge=1, le=100)
    metric: Literal["accuracy", "balanced_accuracy", "macro_f1", "auroc", "auprc", "r2"] = (
        "accuracy"
    )
    split: str = "test"
    rows: int | None = Field(default=2000, ge=1)
    min_steps: int = Field(default=200, ge=1, le=100_000)
    bootstrap: int = Field(default=2000, ge=0, le=100_000)
    level: float = Field(default=0.95, gt=0, lt=1)

    @classmethod
    def examples(cls) -> list[Self]:
        """See `Audit.examples`."""
        return [cls(k=(2,), seeds=2, rows=8, min_steps=2, bootstrap=20)]

    @field_validator("k")
    @classmethod
    def _ascending(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value) < 1 or len(set(value)) != len(value):
            raise ValueError("labels a class are whole numbers of at least 1, each named once")
        return tuple(sorted(value))

    def adds(self, context: PlanContext) -> tuple[str, ...]:
        """`transfer.gain`."""
        return ("transfer.gain",)

    def reads(self, context: PlanContext) -> tuple[Read, ...]:
        """Training rows that models are trained anew on, the test rows, and validation rows where
        they steer a training.
        """
        influences: Any = ("claims", "report")
        why = "models trained anew on few labels"
        reads = [Read(split="train", influences=influences, why=why)]
        if any(r.split == "valid" and not r.disclosure for r in _readings(context)):
            steers = "they steer models trained anew"
            reads.append(Read(split="valid", influences=influences, why=steers))
        reads.append(Read(split=self.split, influences=influences, why="predictions are scored"))
        return tuple(reads)

    def capabilities(self, context: PlanContext) -> Capabilities:
        """Labels, pretrained weights to compare with, and a task that the metric is of."""
        output = "scalar_output" if self.metric == "r2" else "class_logits"
        needs = {"labels", "pretrained", output}
        if context.stages and not _trainings(context):
            needs.add("trained_before")
        return Capabilities(
            needs=frozenset(needs),
            why={
                "pretrained": "the model brings pretrained weights, to compare with random ones",
                output: f"{self.metric} is a metric of the task",
                "trained_before": "a stage before it trains the model",
            },
            mend={
                "pretrained": "name a pretrained model (assay models), or leave out transfer",
                output: "choose another metric: r2 for a regression, accuracy for classes",
                "trained_before": "put the audit after a training stage",
            },
        )

    def estimate_seconds(self, context: PlanContext) -> float:
        """Of what the stages before estimate for so few rows, and of predicting the test rows."""
        each = _PREDICTION.get(context.model.modality, 1e-4) * (self.rows or self._test(context))
        total = 0.0
        for k in self.k:
            rows = k * max(1, context.data.classes or 1)
            # stages take seven tenths of all rows for training rows
            data = context.data.model_copy(update={"rows": -(-rows * 10 // 7)})
            here = context.model_copy(update={"data": data})
            training = sum(
                s.lasting(self.min_steps, rows).estimate(here).seconds for s in _trainings(context)
            )
            total += 2 * self.seeds * (training + each)
        return total

    def _test(self, context: PlanContext) -> int:
        return (context.data.rows or 1000) // 5

    def retrains(self) -> bool:
        """Always."""
        return True

    def measure(self, model: Model, context: Any) -> None:
        """See the class; the model itself is not looked at.

        Raises:
            UsageError: nothing can be trained anew here.
            LoadError: a class has fewer training rows than labels asked for, the split is empty,
                or the metric is undefined on it.
        """
        from assay.audit.measures import transfer

        if context.retrain is None:
            raise UsageError(
                "a transfer gain needs stages before this one that can be run anew",
                where="audit.transfer",
                mend="run the audit in a recipe",
            )
        seed, data = context.derive("transfer"), context.dataset
        if self.rows is not None:
            data = data.sample(self.split, self.rows, seed)
        found = transfer.train_both(
            data,
            self.split,
            self.k,
            transfer.seeds_of(seed, self.seeds),
            context.retrain,
            self.min_steps,
            lambda done, total: context.progress.update(done, total, "training on few labels"),
        )
        units = data.units(self.split)
        gains = [
            transfer.gain(
                self.metric, t.pairs, units, resamples=self.bootstrap, seed=seed, level=self.level
            )
            for t in found
        ]
        n = int(units.max()) + 1
        for trained, gain in zip(found, gains, strict=True):
            context.claim(self._claim(trained, gain, n, len(units), context))
        keep(context, self.part_name, self._evidence(found, gains, len(units)))

    def _claim(self, trained: Trained, gain: Gain, n: int, rows: int, context: Any) -> Claim:
        from assay.audit.measures.latency import fingerprint
        from assay.audit.measures.transfer import method

        return Claim(
            kind="transfer.gain",
            value=gain.value,
            unit="fraction",
            nature="historical",
            dataset=context.dataset.card.name,
            split=self.split,
            conditions={
                "k": trained.k,
                "seeds": self.seeds,
                "metric": self.metric,
                "min_steps": self.min_steps,
            },
            method=method(self.seeds, self.bootstrap if gain.interval is not None else 0),
            interval=gain.interval,
            level=self.level,
            n=n,
            details={
                "pretrained": list(gain.pretrained),
                "scratch": list(gain.scratch),
                "steps": {side: list(taken) for side, taken in trained.steps.items()},
                "labelled": list(trained.rows),
                "rows": rows,
                "machine": fingerprint("torch", context.threads),
            },
        )

    def _evidence(self, found: list[Trained], gains: list[Gain], rows: int) -> dict[str, Any]:
        """What the report draws."""
        return {
            "metric": self.metric,
            "split": self.split,
            "n": rows,
            "k": [t.k for t in found],
            "seeds": list(range(self.seeds)),
            "pretrained": [list(g.pretrained) for g in gains],
            "scratch": [list(g.scratch) for g in gains],
            "gain": [
                {
                    "k": t.k,
                    "value": g.value,
                    "low": None if g.interval is None else g.interval[0],
                    "high": None if g.interval is None else g.interval[1],
                }
                for t, g in zip(found, gains, strict=True)
            ],
        }

    def agrees(self, claim: Claim, again: Claim) -> Status | None:
        """To 1e-4 on the same machine; on another, where training ends elsewhere, the claim must
        lie within the new measurement's interval.
        """
        if not claim.kind.startswith("transfer."):
            return None
        if not isinstance(claim.value, (int, float)) or not isinstance(again.value, (int, float)):
            return "fails"
        if claim.details.get("machine") != again.details.get("machine") and again.interval:
            low, high = again.interval
            return "holds" if low <= claim.value <= high else "fails"
        return "holds" if abs(claim.value - again.value) <= _SAME else "fails"


def _before(context: PlanContext) -> list[Any]:
    """The stages before this one, as far as they are known here."""
    return [s for s in context.stages[: context.stage] if hasattr(s, "effects")]


def _trainings(context: PlanContext) -> list[Any]:
    """Those that change the network: they are what is run anew."""
    return [s for s in _before(context) if s.effects(context).changes_network]


def _readings(context: PlanContext) -> list[Read]:
    return [read for stage in _trainings(context) for read in stage.effects(context).reads]
