"""What every task is: what is predicted from what, the loss of a row, and the decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic import field_validator

from assay.claims import Capabilities, DataCard, PlanContext
from assay.config import Config
from assay.errors import LoadError
from assay.registry import find

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

#: modality -> the property of a network that reads it
_READS = {"text": "token_inputs", "tabular": "feature_inputs", "image": "pixel_inputs"}


class Task(Config):
    """What is predicted from what. Registered as kind `task`; final subclasses.

    Attributes:
        positive: the positive class of two, where a task asks for another than the data's.
    """

    modality: ClassVar[str] = ""
    kind: ClassVar[Literal["classification", "regression"]] = "classification"
    shorthand: ClassVar[str | None] = "positive"

    positive: str | None = None

    @field_validator("positive", mode="before")
    @classmethod
    def _name(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(value) if isinstance(value, (int, float)) else value

    @property
    def classification(self) -> bool:
        """Whether a class is predicted (otherwise a number)."""
        return self.kind == "classification"

    def capabilities(self, context: PlanContext) -> Capabilities:
        """What the task asks of the network and the data, and what both then give to parts."""
        reads = _READS[self.modality]
        needs, gives = (
            {reads, "labels"},
            {"class_logits" if self.classification else "scalar_output"},
        )
        if context.model.modality == self.modality:
            gives.add(reads)
        if self.classification and context.data.classes in (None, 2):
            gives.add("two_classes")  # or it is not known yet
        if context.data.label is not None:
            gives.add("labels")
        if "valid" in context.data.splits:
            gives.add("valid_split")
        return Capabilities(
            needs=frozenset(needs),
            gives=frozenset(gives),
            why={
                reads: f"the model reads {self.modality} (the model {context.model.name!r} reads "
                f"{context.model.modality})",
                "labels": "the data have a label column",
            },
            mend={
                reads: f"choose a {self.modality} model ('assay models' lists them), "
                f"or a {context.model.modality} task",
                "labels": "name it with 'data: {label: ...}'",
            },
        )

    def outputs(self, classes: tuple[str, ...] | None) -> int:
        """Numbers the network gives a row, K: one a class, or one."""
        return len(classes or ()) if self.classification else 1

    def row_losses(
        self,
        outputs: torch.Tensor,
        targets: torch.Tensor,
        *,
        label_smoothing: float = 0.0,
        class_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss of each row.

        Args:
            outputs: `[N, K]`.
            targets: `[N]`, class index (int64), or standardised value (float32).
            label_smoothing: share of the target spread over all classes (Szegedy et al. 2015,
                arXiv 1512.00567), in [0, 1).
            class_weights: factor on the loss of a row by its class, `[K]`.

        Returns:
            `[N]` float32: cross-entropy in nats, or squared error.
        """
        from torch.nn import functional

        if not self.classification:
            return (outputs.float().squeeze(-1) - targets.float()).square()
        losses = functional.cross_entropy(
            outputs.float(), targets, reduction="none", label_smoothing=label_smoothing
        )
        return losses if class_weights is None else losses * class_weights[targets]

    def probabilities(self, outputs: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Softmax of `[N, K]` outputs, float64; for regression the outputs themselves."""
        import numpy as np

        values = np.asarray(outputs, dtype=np.float64)
        if not self.classification:
            return values
        shifted = np.exp(values - values.max(axis=1, keepdims=True))
        result: npt.NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
        return result

    def decide(self, outputs: npt.NDArray[np.floating[Any]]) -> npt.NDArray[Any]:
        """Class index `[N]` int64 (ties: the lower), or value `[N]` float64, from `[N, K]`."""
        import numpy as np

        if not self.classification:
            return np.asarray(outputs, dtype=np.float64)[:, 0]
        chosen: npt.NDArray[np.int64] = np.asarray(outputs).argmax(axis=1).astype(np.int64)
        return chosen


class _Schema(Protocol):
    """What `infer` looks at of an `assay.data.schema.Schema`."""

    @property
    def columns(self) -> Any: ...

    @property
    def label(self) -> str | None: ...

    def text_columns(self) -> tuple[str, ...]: ...

    def image_columns(self) -> tuple[str, ...]: ...


def infer(known: DataCard | _Schema) -> Task:
    """The task that data call for, where a recipe leaves it out.

    Columns of images call for images, else columns of text for text; a label that is a quantity
    (many distinct numbers) calls for regression. A card of data that were not opened says nothing
    of the label: classification.

    Raises:
        LoadError: there is no label.
    """
    if known.label is None:
        raise LoadError("there is no label column", where="data", mend="name it with 'label:'")
    if isinstance(known, DataCard):
        text, number = known.modality == "text", known.classes == 0
        image = known.modality == "image"
    else:
        text, image = bool(known.text_columns()), bool(known.image_columns())
        number = known.columns[known.label].kind == "numeric"
    if image and not number:
        name = "image-classification"
    elif text and not number:
        name = "text-classification"
    else:
        name = "tabular-regression" if number else "tabular-classification"
    task = find("task", name)()
    assert isinstance(task, Task)
    return task
