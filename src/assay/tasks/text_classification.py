"""One of several classes from text."""

from __future__ import annotations

from typing import ClassVar

from assay.registry import register
from assay.tasks.base import Task


@register("task", "text-classification")
class TextClassification(Task):
    """Predict the class of a text: softmax over one logit a class, cross-entropy."""

    modality: ClassVar[str] = "text"
