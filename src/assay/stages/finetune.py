"""Finetune: train the model on the training rows."""

from __future__ import annotations

from assay.registry import register
from assay.stages.training import TrainingStage


@register("stage", "finetune")
class Finetune(TrainingStage):
    """Adapt a pretrained network, or train one from scratch, with the task's head.

    The four questions are its settings: `objective`, `parameters`, `step`, `place`.
    """
