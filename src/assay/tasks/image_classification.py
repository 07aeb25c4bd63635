"""One of several classes from an image."""

from __future__ import annotations

from typing import ClassVar

from assay.registry import register
from assay.tasks.base import Task


@register("task", "image-classification")
class ImageClassification(Task):
    """Predict the class of an image: softmax over one logit a class, cross-entropy."""

    modality: ClassVar[str] = "image"
