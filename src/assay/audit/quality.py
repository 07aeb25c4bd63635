"""The audit `quality`: how good the predictions are, with intervals, beside plain baselines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from assay.audit.base import Audit, keep
from assay.claims import Capabilities, Claim, PlanContext, Read
from assay.claims.claim import Status
from assay.errors import UsageError
from assay.registry import register

if TYPE_CHECKING:
    from assay.audit.measures.quality import Plan
    from assay.models.model import Model

_RULE = re.compile(r"^\s*(sensitivity|specificity|ppv|npv)\s*>=\s*(0?\.\d+|1(?:\.0*)?)\s*$")


_REGRESSION = ("rmse", "mae", "r2", "median_ae")
_CLASSES = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "auprc", "log_loss", "brier")
_TWO_CLASSES = ("sensitivity", "specificity", "ppv", "npv")


def _applicable(context: PlanContext) -> tuple[str, ...]:
    """Metrics of the task, as far as the plan knows the number of classes."""
    if getattr(type(context.task), "kind", "classification") == "regression":
        return _REGRESSION
    return _CLASSES + (_TWO_CLASSES if context.data.classes in (None, 2) else ())


@register("audit", "quality")
class QualityAudit(Audit):
    """Quality of the predictions on held-out rows, or out of fold.

    Claims `quality.<metric>`, each with an interval: Wilson's for accuracy where every unit is one
    row, else a bootstrap over privacy units. The baselines' numbers are in the claims' details.
    Metrics: accuracy, balanced_accuracy, macro_f1, auroc, auprc, log_loss, brier; for two classes
    sensitivity, specificity, ppv and npv at the operating point; for a regression rmse, mae, r2,
    median_ae.

    With `folds`, the stages before this one are run anew on `folds x repeats` training sets drawn
    from all rows, and the claims speak of what such a training gives: mean over the folds, with an
    interval for a fresh training and test set (Nadeau and Bengio 2003). They then carry the
    condition `resampling` and the split `out-of-fold`; `split` is not looked at.

    Attributes:
        split: the rows that are audited.
        metrics: names of metrics; by default all that apply to the task.
        operating_point: threshold on the positive class's probability, or a rule such as
            `sensitivity>=0.9` by which it is chosen on the validation rows: the threshold that
            meets it and does best on the partner (specificity, sensitivity).
        bootstrap: resamples; 0 gives no bootstrap intervals.
        interval: `percentile` or `bca`.
        level: confidence level of the intervals.
        baselines: whether to fit baselines on the training rows.
        folds: number of folds, None to audit `split`.
        repeats: how often the folds are dealt anew.
    """

    split: str = "test"
    metrics: tuple[str, ...] | None = None
    operating_point: float | str = 0.5
    bootstrap: int = Field(default=2000, ge=0, le=100_000)
    interval: Literal["percentile", "bca"] = "percentile"
    level: float = Field(default=0.95, gt=0, lt=1)
    baselines: bool = True
    folds: int | None = Field(default=None, ge=2, le=100)
    repeats: int = Field(default=1, ge=1, le=100)

    @classmethod
    def examples(cls) -> list[Self]:
        """See `Audit.examples`."""
        return [
            cls(bootstrap=20),
            cls(bootstrap=0, baselines=False, operating_point="sensitivity>=0.5"),
            cls(bootstrap=0, baselines=False, folds=2),
        ]

    @field_validator("operating_point")
    @classmethod
    def _known_point(cls, value: float | str) -> float | str:
        if isinstance(value, str) and not _RULE.match(value):
            raise ValueError(
                f"{value!r} is no operating point; write a threshold such as 0.5 or a rule such as "
                "'sensitivity>=0.9'"
            )
        if not isinstance(value, str) and not 0 <= value <= 1:
            raise ValueError(f"{value} is no probability; choose one between 0 and 1")
        return value

    @model_validator(mode="after")
    def _repeats_need_folds(self) -> Self:
        if self.folds is None and self.repeats > 1:
            raise ValueError("repeats without folds repeat nothing; give folds too")
        return self

    def adds(self, context: PlanContext) -> tuple[str, ...]:
        """`quality.<metric>` of the metrics named, else of all that apply to the task."""
        return tuple(f"quality.{name}" for name in self.metrics or _applicable(context))

    def reads(self, context: PlanContext) -> tuple[Read, ...]:
        """The audited rows; those that baselines are fitted on; those that choose the threshold."""
        why = "models trained anew on folds of all rows" if self.folds else "predictions are scored"
        splits = context.data.splits if self.folds else (self.split,)
        reads = [Read(split=s, influences=("claims", "report"), why=why) for s in splits]
        if self.baselines and "train" not in splits:
            reads.append(
                Read(split="train", influences=("claims", "report"), why="baselines are fitted")
            )
        if isinstance(self.operating_point, str):
            reads.append(
                Read(split="valid", influences=("choice",), why="the operating point is chosen")
            )
        return tuple(reads)

    def capabilities(self, context: PlanContext) -> Capabilities:
        """Labels; where a rule chooses the operating point, two classes and validation rows."""
        needs = {"labels"}
        if isinstance(self.operating_point, str):
            needs |= {"two_classes", "valid_split"}
        return Capabilities(
            needs=frozenset(needs),
            why={
                "two_classes": "the operating point is a threshold between two classes",
                "valid_split": "the operating point is chosen on validation rows",
            },
            mend={
                "two_classes": "leave out operating_point",
                "valid_split": "write a threshold such as operating_point: 0.5",
            },
        )

    def estimate_seconds(self, context: PlanContext) -> float:
        """Of a rough cost a row; training anew on folds is not in it."""
        rows = context.data.rows or 1000
        heavy = {"text": 0.02, "image": 2e-3}.get(context.model.modality, 1e-4)
        each = rows * (1.0 if self.folds else 0.2) * heavy * self.repeats
        return each + (2.0 if self.baselines else 0.0) + self.bootstrap * rows * 1e-7

    def retrains(self) -> bool:
        """With folds."""
        return self.folds is not None

    def measure(self, model: Model, context: Any) -> None:
        """See the class.

        Raises:
            UsageError: a metric or the operating point does not fit the task.
            LoadError: the split is empty, or a metric that was asked for is undefined on it.
        """
        from assay.audit.measures import quality

        if self.folds is None:
            found = quality.held_out(self._plan(context), model, context.dataset, self.split)
        else:
            if context.retrain is None:
                raise UsageError(
                    "folds need stages before this one that can be run anew",
                    where="audit.quality.folds",
                    mend="leave out folds, or run the audit in a recipe",
                )
            found = quality.out_of_fold(
                self._plan(context),
                context.dataset,
                self.folds,
                self.repeats,
                context.retrain,
                lambda done, total: context.progress.update(done, total, "training on folds"),
            )
        for claim in found.claims:
            context.claim(claim)
        keep(context, self.part_name, found.picture)
        wrong = found.picture.get("mistakes")
        if self.folds is None and wrong:
            from assay.audit.measures.examples import examples

            shown = examples(context.dataset, self.split, wrong)
            if shown is not None:
                keep(context, "mistakes", shown)

    def _plan(self, context: Any) -> Plan:
        from assay.audit.measures.quality import Plan

        point: float | tuple[str, float]
        if isinstance(self.operating_point, str):
            match = _RULE.match(self.operating_point)
            assert match is not None
            point = (match.group(1), float(match.group(2)))
        else:
            point = float(self.operating_point)
        return Plan(
            metrics=self.metrics,
            point=point,
            resamples=self.bootstrap,
            method=self.interval,
            level=self.level,
            baselines=self.baselines,
            seed=context.derive("quality"),
            threads=context.threads,
        )

    def agrees(self, claim: Claim, again: Claim) -> Status | None:
        """Counts must agree but for ties, areas and losses to 1e-4.

        Out of fold to 1e-4 on the same machine; on another, where training ends elsewhere, the
        claim must lie within the new measurement's interval.

        Another processor rounds otherwise: that can flip the decision on a row whose two best
        probabilities are within 1e-4, so as many flips are allowed as the new measurement has
        such rows.
        """
        if not claim.kind.startswith("quality."):
            return None
        if not isinstance(claim.value, (int, float)) or not isinstance(again.value, (int, float)):
            return "fails"
        apart, slack = abs(claim.value - again.value), float(again.details["slack"]) + 1e-9
        elsewhere = claim.details.get("machine") != again.details.get("machine")
        if "resampling" in claim.conditions and elsewhere and again.interval is not None:
            low, high = again.interval
            return "holds" if low <= claim.value <= high else "fails"
        scale = 1.0 if again.unit == "fraction" else max(1.0, abs(again.value))
        return "holds" if apart <= slack * scale else "fails"
