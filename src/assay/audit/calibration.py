"""The audit `calibration`: do probabilities tell how often the model is right?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from assay.audit.base import Audit, keep
from assay.claims import Capabilities, Claim, PlanContext, Read
from assay.claims.claim import Status
from assay.config import Config
from assay.registry import register

if TYPE_CHECKING:
    from assay.models.model import Model
    from assay.models.predictions import Predictions


class Conformal(Config):
    """Prediction sets that hold the true class often enough.

    Attributes:
        alpha: share of sets that may miss it, in (0, 1).
        method: `lac` (smallest sets on average) or `aps` (coverage that varies less from row to
            row).
        split: rows that set the limit; they must not be those that the model was trained on.
    """

    shorthand: ClassVar[str | None] = "alpha"
    alpha: float = Field(default=0.1, gt=0, lt=1)
    method: Literal["lac", "aps"] = "lac"
    split: str = "valid"

    @field_validator("split")
    @classmethod
    def _unseen(cls, split: str) -> str:
        if split == "train":
            raise ValueError("a model is too sure of its training rows; name others, e.g. valid")
        return split


@register("audit", "calibration")
class CalibrationAudit(Audit):
    """Compare confidence with accuracy.

    Claims `calibration.ece`, the expected calibration error of the most probable class over bins
    of equal width (Guo et al. 2017, arXiv 1706.04599), and `calibration.adaptive_ece` over bins of
    as many rows each (Nixon et al. 2019, arXiv 1904.01685). Both are means of absolute values, so
    that noise alone makes them positive: the details say what a perfectly calibrated model with
    these very confidences would show on so many rows. The Brier score is among `quality`.

    With `conformal`: `conformal.coverage`, the share of rows whose prediction set holds the true
    class, and `conformal.size`, the mean number of classes in a set; Clopper and Pearson's interval
    where each row is a unit, else a bootstrap over units. The limit is set on another split;
    coverage is promised for rows exchangeable with it, on average over such splits, not for every
    group of rows, and not where a `calibrate` fitted a temperature of three or more classes or an
    isotonic map on those rows. What is claimed is measured either way.

    Attributes:
        split: rows that are judged.
        bins: number of bins.
        resamples: of the bootstrap over privacy units; 0 leaves intervals out.
        conformal: prediction sets, if any.
    """

    split: str = "test"
    bins: int = Field(default=15, ge=2, le=100)
    resamples: int = Field(default=1000, ge=0, le=100_000)
    conformal: Conformal | None = None

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.conformal is not None and self.conformal.split == self.split:
            raise ValueError(
                f"the limit of the sets would be set on the rows that judge them ({self.split}); "
                "name another split under conformal"
            )
        return self

    @classmethod
    def examples(cls) -> list[Self]:
        """With and without sets."""
        return [cls(resamples=50), cls(resamples=0, conformal=Conformal(alpha=0.2, method="aps"))]

    def adds(self, context: PlanContext) -> tuple[str, ...]:
        """See the class."""
        kinds = ("calibration.ece", "calibration.adaptive_ece")
        return kinds if self.conformal is None else (*kinds, "conformal.coverage", "conformal.size")

    def reads(self, context: PlanContext) -> tuple[Read, ...]:
        """The judged rows, and those that set the limit."""
        why = "confidence is judged"
        found = [Read(split=self.split, influences=("claims", "report"), why=why)]
        if self.conformal is not None:
            why = "the limit of prediction sets"
            found.append(Read(split=self.conformal.split, influences=("claims",), why=why))
        return tuple(found)

    def capabilities(self, context: PlanContext) -> Capabilities:
        """Classes; for sets, rows apart from the training rows."""
        needs = {"labels", "class_logits"}
        if self.conformal is not None and self.conformal.split == "valid":
            needs.add("valid_split")
        return Capabilities(
            needs=frozenset(needs),
            why={
                "class_logits": "classes have probabilities",
                "valid_split": "the limit is set on validation rows",
            },
            mend={
                "class_logits": "leave it out for a regression",
                "valid_split": "keep validation rows: data: {splits: {valid: 0.1}}",
            },
        )

    def estimate_seconds(self, context: PlanContext) -> float:
        """Predictions, which audits share, and resamples."""
        return 1.0 + self.resamples * (context.data.rows or 1000) * 1e-8

    def measure(self, model: Model, context: Any) -> None:
        """See the class.

        Raises:
            LoadError: a split has no rows.
        """
        import numpy as np

        from assay.audit.measures import calibration as by
        from assay.audit.measures.said import said

        data = context.dataset
        told, true = said(model, data, self.split), data.targets(self.split)
        assert told.probabilities is not None
        found = by.judged(told.probabilities.astype(np.float64), true)
        units = data.units(self.split)
        ways = {
            "ece": (by.equal_width(found.confidence, self.bins), "equal width"),
            "adaptive_ece": (by.equal_mass(found.confidence, self.bins), "equal mass"),
        }
        errors = {}
        for name, (bins, how) in ways.items():
            errors[name] = by.calibration_error(
                found,
                bins,
                self.bins,
                units,
                resamples=self.resamples,
                seed=context.derive("calibration", name),
            )
            error = errors[name]
            way = f"{self.bins} bins of {how}"
            drawn = f"; bootstrap over units, {self.resamples} resamples, less its bias"
            context.claim(
                Claim(
                    kind=f"calibration.{name}",
                    value=error.value,
                    unit="fraction",
                    dataset=data.card.name,
                    split=self.split,
                    method=way + (drawn if error.interval else ""),
                    interval=error.interval,
                    n=int(units.max()) + 1,
                    details={
                        "rows": len(true),
                        "null_mean": error.null_mean,
                        "null_high": error.null_high,
                    },
                )
            )
        kept: dict[str, Any] = {
            "split": self.split,
            "n": len(true),
            "bins": by.reliability(found, self.bins),
            "ece": errors["ece"].value,
            "conformal": self._sets(model, told, context) if self.conformal is not None else None,
        }
        keep(context, self.part_name, kept)

    def _sets(self, model: Model, told: Predictions, context: Any) -> dict[str, Any]:
        """Claim coverage and size of prediction sets; gives what the report draws."""
        import numpy as np

        from assay.audit.measures import calibration as by
        from assay.audit.measures.said import said

        wanted, data = self.conformal, context.dataset
        assert wanted is not None
        assert told.probabilities is not None
        given = said(model, data, wanted.split)
        assert given.probabilities is not None
        sets = by.conformal(
            (given.probabilities.astype(np.float64), data.targets(wanted.split)),
            (told.probabilities.astype(np.float64), data.targets(self.split)),
            wanted.alpha,
            wanted.method,
        )
        sizes = sets.members.sum(axis=1)
        units = data.units(self.split)
        mean = float(sizes.mean())
        coverage = float(sets.hits.mean())
        spans, ways = by.set_spans(
            sets.hits,
            sizes.astype(np.float64),
            units,
            resamples=self.resamples,
            seed=context.derive("calibration", "sets"),
        )
        for name, value in {"coverage": coverage, "size": mean}.items():
            context.claim(
                Claim(
                    kind=f"conformal.{name}",
                    value=value,
                    unit="fraction" if name == "coverage" else "classes",
                    dataset=data.card.name,
                    split=self.split,
                    conditions={
                        "alpha": wanted.alpha,
                        "method": wanted.method,
                        "calibrated_on": wanted.split,
                    },
                    method=ways[name],
                    interval=spans[name],
                    n=int(units.max()) + 1,
                    details={"rows": len(sizes), "calibration_rows": data.size(wanted.split)},
                )
            )
        span = spans["coverage"]
        counts = {str(int(k)): int((sizes == k).sum()) for k in np.unique(sizes)}
        return {
            "alpha": wanted.alpha,
            "coverage": coverage,
            "low": span[0] if span else None,
            "high": span[1] if span else None,
            "mean_size": mean,
            "sizes": counts,
        }

    def agrees(self, claim: Claim, again: Claim) -> Status | None:
        """Errors to 1e-3 and shares to a row in a thousand: another processor rounds otherwise, and
        a row at the edge of a bin or of a set may change sides.
        """
        if not isinstance(claim.value, (int, float)) or not isinstance(again.value, (int, float)):
            return None
        if not claim.kind.startswith(("calibration.", "conformal.")):
            return None
        slack = max(1e-3, 1.5 / max(again.n or 1, 1)) * max(1.0, abs(again.value))
        return "holds" if abs(claim.value - again.value) <= slack else "fails"
