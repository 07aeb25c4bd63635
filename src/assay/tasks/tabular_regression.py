"""A number from the columns of a table."""

from __future__ import annotations

from typing import ClassVar, Literal

from assay.registry import register
from assay.tasks.base import Task


@register("task", "tabular-regression")
class TabularRegression(Task):
    """Predict a number: one output, squared error of the standardised target.

    The mean and standard deviation of the training targets are kept by the preprocessing
    (`preprocessing.target`), which takes outputs back to the label's own unit.
    """

    modality: ClassVar[str] = "tabular"
    kind: ClassVar[Literal["classification", "regression"]] = "regression"
