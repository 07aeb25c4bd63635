"""Learning from the outputs of another model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import Field

from assay.claims import Capabilities, PlanContext
from assay.errors import UsageError
from assay.files import sha256
from assay.registry import register
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
    computed once for the rows of a split and looked up by row.

    Attributes:
        teacher: folder of the teacher's model, or of the run that made it.
        temperature: T, > 0.
    """

    teacher: str
    temperature: float = Field(default=2.0, gt=0)

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings; the composition matrix saves a teacher there."""
        return [cls(teacher="teacher")]

    def capabilities(self, context: PlanContext) -> Capabilities:
        """Needs classes."""
        return Capabilities(
            needs=frozenset({"class_logits"}),
            why={"class_logits": "teacher and student give one logit a class"},
            mend={"class_logits": "use supervised for a regression"},
        )

    def init(self, setup: Setup) -> TeacherOutputs:
        """The teacher's outputs for the training rows.

        Raises:
            LoadError, ArtefactError: the teacher cannot be loaded.
            UsageError: its classes are others.
        """
        from assay.models.load import load_model

        outputs = TeacherOutputs(load_model(Path(self.teacher)), setup)
        outputs.of("train")
        return outputs

    def lineage(self, setup: Setup) -> dict[str, str]:
        """The teacher's folder -> hash of the last line of its passport, which names all before."""
        from assay.claims.passport import Passport
        from assay.models.load import model_folder

        passport, _ = Passport.read(model_folder(Path(self.teacher)))
        return {self.teacher: sha256(passport.lines[-1] if passport.lines else b"")}

    def loss(self, call: Call, state: TeacherOutputs) -> Losses:
        """Divergences of the batch's rows, `[N]`."""
        logits = state.of("train" if call.training else "valid")[call.batch.rows]
        return Losses({MODEL: divergence(call.outputs, logits, self.temperature)})


class TeacherOutputs:
    """A teacher's logits for the splits of a data set, each computed once.

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
        self._teacher, self._dataset = teacher, setup.context.dataset
        self._splits: dict[str, torch.Tensor] = {}

    def of(self, split: str) -> torch.Tensor:
        """Logits of the rows of a split in the student's order of classes, `[n, K]`."""
        import torch

        if split not in self._splits:
            encoded = self._teacher.preprocessing.encode(self._dataset.rows(split))
            outputs = self._teacher.outputs(encoded)
            self._splits[split] = torch.from_numpy(outputs[:, self._order].copy())
        return self._splits[split]


def divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """`T^2 KL(softmax(teacher / T) || softmax(student / T))` of rows, `[N, K]` each -> `[N]`."""
    from torch.nn import functional

    ours = functional.log_softmax(student.float() / temperature, dim=1)
    theirs = functional.log_softmax(teacher / temperature, dim=1)
    rows = functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(dim=1)
    return rows * temperature**2
