"""Training in this process."""

from __future__ import annotations

from typing import Any

from assay.registry import register
from assay.training.parts import Place


@register("place", "local")
class Local(Place):
    """Train in this process, on all the data."""

    def run(self, job: Any) -> None:
        """Step until the job is done."""
        while not job.done:
            job.step()
