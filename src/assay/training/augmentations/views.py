"""Several views of every image in one batch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from assay.config import PartField, build_part
from assay.registry import register
from assay.training.augmentation import Augmentation

if TYPE_CHECKING:
    import torch

    from assay.training.batches import Batch


@register("augmentation", "views")
class Views(Augmentation):
    """Repeat every image `k` times, each time seen otherwise (Hoffer et al. 2020, arXiv
    1901.09335). The views of an image are rows of its privacy unit and weigh `1 / k` each: the
    unit's loss is their mean, and clipping it bounds all of them together.

    Attributes:
        k: views of an image, >= 1.
        of: augmentations of single images by which views differ.

    Raises:
        ValueError: one of them does not change each image by itself.
    """

    shorthand: ClassVar[str | None] = "k"
    k: int = Field(default=2, ge=1, le=64)
    of: Annotated[Any, PartField("augmentation", many=True, default={"crop": {}, "flip": {}})] = (
        None
    )

    @model_validator(mode="after")
    def _of_single_images(self) -> Self:
        for part in self.of:
            if not part.single:
                raise ValueError(f"{part.part_name} makes other batches; put it beside views")
        return self

    @classmethod
    def examples(cls) -> list[Self]:
        """Two views, shifted by a pixel."""
        return [cls(k=2, of=(build_part("augmentation", {"crop": 1}),))]

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """See `Augmentation.apply`: `k * N` rows, an image's views beside each other."""
        every = _repeat(len(batch), self.k)
        out = replace(
            batch,
            inputs={name: value[every] for name, value in batch.inputs.items()},
            targets=batch.targets[every],
            weights=batch.weights[every] / self.k,
            rows=batch.rows[every],
            units=batch.units[every],
            plain=batch.plain and self.k == 1,
            extras={name: value[every] for name, value in batch.extras.items()},
            mixture=_repeated(batch.mixture, every, self.k),
        )
        for part in self.of:
            out = part.apply(out, generator)
        return out


def _repeated(
    mixture: tuple[torch.Tensor, torch.Tensor] | None, every: Any, k: int
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """A mixture of views: view i of a row goes with view i of its partner."""
    if mixture is None:
        return None
    partner, share = mixture
    which = every.new_tensor(range(k)).repeat(len(partner))
    return partner[every] * k + which, share[every]


def _repeat(n: int, k: int) -> Any:
    import torch

    return torch.arange(n).repeat_interleave(k)
