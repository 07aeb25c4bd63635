"""The task's loss against the labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, field_validator

from assay.claims import Capabilities, PlanContext
from assay.errors import UsageError, did_you_mean
from assay.registry import register
from assay.training.parts import MODEL, Call, Losses, Setup, Term

if TYPE_CHECKING:
    import torch


@register("term", "supervised")
class Supervised(Term):
    """The task's loss of each row against its label: cross-entropy for classes (optionally
    smoothed: Szegedy et al. 2016, arXiv 1512.00567), squared error for numbers.

    Attributes:
        class_weights: factor on the losses of a class: `none`; `balanced`, N / (K n_k) (King,
            Zeng 2001), with the counts n_k asked of `bounded_sum`; or class -> factor (1 where a
            class is not named), which reads no data.
        label_smoothing: share of the label spread evenly over all classes, in [0, 1).
        unit_rows: with `balanced` and privacy units of several rows, bound on the L2 norm of the
            class counts of one unit; None bounds them only where a row is a unit (by 1).
    """

    class_weights: Literal["none", "balanced"] | dict[str, float] = "none"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    unit_rows: float | None = Field(default=None, gt=0)

    @field_validator("class_weights", mode="before")
    @classmethod
    def _names_are_text(cls, value: Any) -> Any:
        # YAML reads the class names 0 and 1 as integers
        return {str(k): v for k, v in value.items()} if isinstance(value, Mapping) else value

    @field_validator("class_weights")
    @classmethod
    def _weights_are_positive(cls, value: Any) -> Any:
        if isinstance(value, dict) and any(weight <= 0 for weight in value.values()):
            raise ValueError("class weights are positive; leave out the class instead")
        return value

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls()]

    def capabilities(self, context: PlanContext) -> Capabilities:
        """Labels; and classes, where they are weighted or smoothed."""
        if self.class_weights == "none" and self.label_smoothing == 0:
            return Capabilities(needs=frozenset({"labels"}))
        return Capabilities(
            needs=frozenset({"labels", "class_logits"}),
            why={"class_logits": "there are classes to weigh or smooth"},
            mend={"class_logits": "leave out class_weights and label_smoothing"},
        )

    def asks(self) -> tuple[str, ...]:
        """Balanced weights need the counts of classes."""
        return ("class counts",) if self.class_weights == "balanced" else ()

    def init(self, setup: Setup) -> torch.Tensor | None:
        """The weights of the classes, `[K]` float32, or None."""
        import torch

        if self.class_weights == "none":
            return None
        classes = setup.model.classes or ()
        if self.class_weights == "balanced":
            return torch.as_tensor(self._balanced(setup, len(classes)), dtype=torch.float32)
        for name in self.class_weights:
            if name not in classes:
                raise UsageError(
                    f"unknown class {name!r}",
                    where="objective.supervised.class_weights",
                    mend=did_you_mean(name, classes),
                )
        return torch.tensor([self.class_weights.get(name, 1.0) for name in classes])

    def _balanced(self, setup: Setup, classes: int) -> Any:
        """N / (K n_k) for each class, from counts that went through the one door, `[K]`."""
        import numpy as np

        context = setup.context
        targets, units = context.dataset.targets("train"), context.dataset.units("train")
        counts = np.zeros((int(units.max(initial=-1)) + 1, classes))
        np.add.at(counts, (units, targets), 1.0)
        one_row = context.plan.data.unit is None
        bound = 1.0 if one_row else (self.unit_rows or float("inf"))
        total = context.door.bounded_sum("supervised.class_counts", counts, bound)
        # noise may take a count below one
        total = np.maximum(total, 1.0)
        return total.sum() / (classes * total)

    def loss(self, call: Call, state: torch.Tensor | None) -> Losses:
        """Losses of the batch's rows, `[N]`."""
        rows = call.setup.context.task.row_losses(
            call.outputs,
            call.batch.targets,
            label_smoothing=self.label_smoothing,
            class_weights=state,
        )
        return Losses({MODEL: rows})
