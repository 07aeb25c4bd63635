"""One of several classes from the columns of a table."""

from __future__ import annotations

from typing import ClassVar

from assay.registry import register
from assay.tasks.base import Task


@register("task", "tabular-classification")
class TabularClassification(Task):
    """Predict the class of a row: softmax over one logit a class, cross-entropy."""

    modality: ClassVar[str] = "tabular"
