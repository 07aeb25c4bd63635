"""Learning from the outputs of another model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import Field

from assay.claims import Capabilities, PlanContext
from assay.errors import UsageError
from assay.registry import register
from assay.training import teachers
from assay.training.parts import MODEL, Call, Losses, Setup, Term

if TYPE_CHECKING:
    import torch

    from assay.models.model import Model

_WHERE = "objective.distillation.teacher"


@register("term", "distillation")
class Distillation(Term):
    """Match a teacher's softened class probabilities (Hinton, Vinyals, Dean 2015, arXiv
    1503.02531): `T^2 KL(softmax(teacher / T) || softmax(student / T))` for each row.

    The teacher has the same classes (in any order) and its own preprocessing. Its outputs are
    computed once for the rows of a split and looked up by row. With `same_view` it sees what the
    student sees, augmented as it is, at every step (Beyer et al. 2021, arXiv 2106.05237).

    Attributes:
        teacher: folder of the teacher's model, or of the run that made it; `current` is the model
            that came into the stage; by default the teacher of the stage `distill`.
        temperature: T, > 0.
        same_view: give the teacher the student's very inputs; both read rows in the same way then.
    """

    teacher: str | None = None
    temperature: float = Field(default=2.0, gt=0)
    same_view: bool = False

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings; the composition matrix saves a teacher there."""
        return [cls(teacher="teacher"), cls(teacher="current", same_view=True)]

    def capabilities(self, context: PlanContext) -> Capabilities:
        """Needs classes and a teacher; one that shares the view needs it whole."""
        needs = {"class_logits"} | ({"teacher"} if self.teacher is None else set())
        return Capabilities(
            needs=frozenset(needs),
            breaks=frozenset({"prefix_cache"} if self.same_view else ()),
            why={
                "class_logits": "teacher and student give one logit a class",
                "prefix_cache": "shows the teacher the inputs themselves",
            },
            mend={
                "class_logits": "use features, which needs no classes, or supervised",
                "teacher": "name a folder, or 'current', under teacher",
                "prefix_cache": "leave out same_view",
            },
        )

    def init(self, setup: Setup) -> TeacherOutputs:
        """The teacher's outputs for the training rows.

        Raises:
            LoadError, ArtefactError: the teacher cannot be loaded.
            UsageError: its classes are others, or it cannot share the student's view.
        """
        outputs = TeacherOutputs(teachers.teacher(self.teacher, setup), setup)
        if self.same_view:
            teachers.same_reading(outputs.teacher, setup, "objective.distillation.same_view")
        else:
            outputs.of("train")
        return outputs

    def lineage(self, setup: Setup) -> dict[str, str]:
        """The teacher's folder -> hash of the last line of its passport, which names all before."""
        return teachers.lineage(self.teacher, setup)

    def loss(self, call: Call, state: TeacherOutputs) -> Losses:
        """Divergences of the batch's rows, `[N]`."""
        if self.same_view:
            logits = state.view(call.batch.inputs)
        else:
            logits = state.of("train" if call.training else "valid")[call.batch.rows]
        return Losses({MODEL: divergence(call.outputs, logits, self.temperature)})


class TeacherOutputs:
    """A teacher's logits for the splits of a data set, each computed once, or for a batch.

    Args:
        teacher: the teacher.
        setup: the stage's set-up; its model is the student.

    Raises:
        UsageError: teacher and student have different classes.
    """

    def __init__(self, teacher: Model, setup: Setup) -> None:
        theirs, ours = teacher.classes or (), setup.model.classes or ()
        if sorted(theirs) != sorted(ours):
            raise UsageError(
                f"the teacher's classes are {', '.join(theirs) or 'none'}, "
                f"the student's {', '.join(ours) or 'none'}",
                where=_WHERE,
                mend="name a teacher of the same task",
            )
        self._order = [theirs.index(name) for name in ours]
        self.teacher, self._dataset = teacher, setup.context.dataset
        self._splits: dict[str, torch.Tensor] = {}
        self._seen: tuple[Any, torch.Tensor] | None = None

    def of(self, split: str) -> torch.Tensor:
        """Logits of the rows of a split in the student's order of classes, `[n, K]`."""
        import torch

        if split not in self._splits:
            encoded = self.teacher.preprocessing.encode(self._dataset.rows(split))
            outputs = self.teacher.outputs(encoded)
            self._splits[split] = torch.from_numpy(outputs[:, self._order].copy())
        return self._splits[split]

    def view(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Logits of a batch as the student sees it, `[N, K]`."""
        import torch

        if self._seen is not None and self._seen[0] is inputs:
            return self._seen[1]  # a mixture asks twice about one view
        network = self.teacher.network
        own = {name: inputs[name] for name in self.teacher.preprocessing.inputs}
        was_training = network.training
        network.eval()
        try:
            with torch.no_grad():
                logits: torch.Tensor = network(**own)[:, self._order].float()
        finally:
            network.train(was_training)
        self._seen = (inputs, logits)
        return logits


def divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """`T^2 KL(softmax(teacher / T) || softmax(student / T))` of rows, `[N, K]` each -> `[N]`."""
    from torch.nn import functional

    ours = functional.log_softmax(student.float() / temperature, dim=1)
    theirs = functional.log_softmax(teacher / temperature, dim=1)
    rows = functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(dim=1)
    return rows * temperature**2
