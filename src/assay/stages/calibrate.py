"""The stage `calibrate`: probabilities that say how often the model is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import field_validator

from assay.claims import Capabilities, Effects, Estimate, PlanContext, Read
from assay.models.structure import MAPS
from assay.registry import register
from assay.stages.base import Stage

if TYPE_CHECKING:
    from assay.models.model import Model
    from assay.training.context import RunContext


@register("stage", "calibrate")
class Calibrate(Stage):
    """Fit a map from the head's logits to calibrated ones on rows the model was not trained on.

    `temperature`: one number, by the smallest log-loss (Guo et al. 2017, arXiv 1706.04599); the
    order of the classes does not change. Rows that are all decided rightly tell none: it stays 1,
    and the stage says so. `isotonic`: a rising map for each class against the rest
    (Zadrozny and Elkan 2002), which can change decisions and wants some thousand rows. The map is a
    structure: it is saved, exported and loaded with the model, and replaces an older one.

    Attributes:
        method: which map.
        split: rows on which it is fitted.
    """

    shorthand: ClassVar[str | None] = "method"

    method: Literal["temperature", "isotonic"] = "temperature"
    split: str = "valid"

    @field_validator("split")
    @classmethod
    def _unseen(cls, split: str) -> str:
        if split == "train":
            raise ValueError("a model is too sure of its training rows; fit on others, e.g. valid")
        return split

    @classmethod
    def examples(cls) -> list[Self]:
        """Both maps."""
        return [cls(), cls(method="isotonic")]

    def effects(self, context: PlanContext) -> Effects:
        """Probabilities change: behaviour is void. Parameters and operations of the trunk stay."""
        keeps = ["size.parameters", "sparsity.*", "transfer.*", "lineage.*"]
        if not context.data.private:
            keeps.append("privacy.epsilon")
        return Effects(
            keeps=tuple(keeps),
            reads=(
                Read(split=self.split, influences=("weights",), why=f"the {self.method} is fitted"),
            ),
            moves=f"the {self.method} after the head",
            notes=(
                (f"the rows of {self.split} are no longer unseen: audit others",)
                if self.split == "test"
                else ()
            ),
            structure_adds=(self.method,),
            structure_removes=tuple(n for n in context.structures if n in MAPS),
        )

    def capabilities(self, context: PlanContext) -> Capabilities:
        """Classes, and rows apart from those that were trained on."""
        needs = {"labels", "class_logits"} | ({"valid_split"} if self.split == "valid" else set())
        return Capabilities(
            needs=frozenset(needs),
            why={
                "class_logits": "classes have probabilities",
                "valid_split": "it is fitted on validation rows",
            },
            mend={
                "class_logits": "leave it out for a regression",
                "valid_split": "keep validation rows: data: {splits: {valid: 0.1}}",
            },
        )

    def estimate(self, context: PlanContext) -> Estimate:
        """One prediction of each of the rows."""
        heavy = {"text": 0.02, "image": 2e-3}.get(context.model.modality, 1e-4)
        rows = (context.data.rows or 1000) * 0.1
        return Estimate(seconds=round(1 + rows * heavy, 1), basis="one prediction a row")

    def run(self, model: Model, context: RunContext) -> Model:
        """See the class.

        Raises:
            LoadError: the split has no rows.
        """
        from assay.models.fitting import calibrated

        return calibrated(model.without_files(), context, self.method, self.split)
