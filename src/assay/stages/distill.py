"""The stage `distill`: a student learns from a teacher, and may take its place."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from assay.claims import Capabilities, Claim, Effects, Estimate, PlanContext
from assay.claims.lineage import data_behind, digest, inherited, private_data
from assay.config import PartField
from assay.errors import AssayError, UsageError
from assay.models.hub import ModelConfig
from assay.registry import register
from assay.stages.training import TrainingStage

if TYPE_CHECKING:
    from assay.models.model import Model
    from assay.training.context import RunContext

_CURRENT = "current"
_LINEAGE = "lineage.teacher"


@register("stage", "distill")
class Distill(TrainingStage):
    """Train a student on what a teacher says of the training rows (Hinton, Vinyals, Dean 2015,
    arXiv 1503.02531).

    The student is a network of its own (`student`), built and, where it is not pretrained,
    initialised here; it takes the place of the model that came in. Without `student`, the model
    that came in is the student, and the teacher is another one. The terms `distillation`,
    `features` and `attention` learn from the stage's teacher unless they name one.

    The passport goes on from the model that came in, and records what descends from a teacher that
    is a folder: its digest, how it came about, what data it has read, and its own teachers. Claims
    `lineage.teacher` of it; `verify` compares it with the folder.

    Attributes:
        teacher: folder of a model or of the run that made it, or `current`: the model that came in.
        student: what takes the model's place, written as a recipe's `model:`.
        objective: what is learnt; by default the teacher's softened probabilities.
    """

    teacher: str = Field(default=_CURRENT, min_length=1)
    student: ModelConfig | None = None
    objective: Annotated[Any, PartField("term", many=True, default="distillation")] = None

    @model_validator(mode="after")
    def _somebody_learns(self) -> Self:
        if self.student is None and self.teacher == _CURRENT:
            raise ValueError(
                "teacher and student are the same model; name a student, or a folder as teacher"
            )
        return self

    @classmethod
    def examples(cls) -> list[Self]:
        """A smaller student of tables and one of texts, and the current model as the student."""
        bert = {"hidden_size": 8, "layers": 1, "heads": 2, "intermediate_size": 8}
        mlp = ModelConfig(name="mlp", settings={"hidden": [3]})
        whole: dict[str, Any] = {"epochs": 1, "batch": 16}
        return [
            cls(student=mlp, **whole),
            cls(student=mlp, objective={"features": None, "supervised": None}, **whole),
            cls(student=ModelConfig(name="bert", settings=bert, max_length=16), **whole),
            cls(teacher="teacher", **whole),
        ]

    def builds(self) -> ModelConfig | None:
        """The student, where it takes the place of the model that came in."""
        return self.student

    def capabilities(self, context: PlanContext) -> Capabilities:
        """It gives its terms a teacher; a student of its own brings a head of its own."""
        here = context if self.student is None else self._with_student(context)
        plain = super().capabilities(here)
        return plain.model_copy(update={"gives": plain.gives | {"teacher"}})

    def effects(self, context: PlanContext) -> Effects:
        """Behaviour is void, and with another network all that was claimed of the one before."""
        lineage, note = self._behind()
        private = lineage is None or private_data(lineage)
        notes = (note,) if note else ()
        if lineage is not None:
            self._check_held_out(lineage, context)
        adds = () if self.teacher == _CURRENT else (_LINEAGE,)
        if self.student is None:
            plain = super().effects(context)
            keeps = plain.keeps
            if private:
                keeps = tuple(k for k in keeps if not fnmatchcase("privacy.epsilon", k))
            notes = (*plain.notes, *notes)
            adds = (*plain.adds, *adds)
            return plain.model_copy(update={"adds": adds, "keeps": keeps, "notes": notes})
        here = self._with_student(context)
        plain = super().effects(here)
        # another network with a history of its own brings spends that nobody has added up
        kept = plain.keeps if self.teacher == _CURRENT and self._folder() is None else ()
        gone = tuple(s for s in context.structures if s not in here.structures and s != "head")
        new = tuple(s for s in here.structures if s not in context.structures and s != "head")
        return plain.model_copy(
            update={
                "adds": (*plain.adds, *adds),
                "keeps": tuple(
                    k for k in kept if k == "privacy.epsilon" or k.startswith("lineage.")
                ),
                "reads": (*self.student.reads(Path.cwd()), *plain.reads),
                "moves": f"{plain.moves} of the student {here.model.name}",
                "structure_adds": (*new, *plain.structure_adds),
                "structure_removes": gone,
                "notes": (
                    *plain.notes,
                    f"the student {here.model.name} takes the model's place",
                    *notes,
                ),
                "model": here.model,
            }
        )

    def estimate(self, context: PlanContext) -> Estimate:
        """That of training the student, and one pass of the teacher over the rows."""
        rows, teacher = context.data.rows, context.model.parameters
        if self.student is None:
            return super().estimate(context)
        card = self.student.card(Path.cwd())
        student = super().estimate(context.model_copy(update={"model": card}))
        if rows is None or teacher is None or self.teacher != _CURRENT:
            return student
        once = 2.0 * teacher * rows * 0.7 / 8.0e10
        basis = f"{student.basis}, and the teacher once over the rows"
        return student.model_copy(
            update={"seconds": round(student.seconds + once, 1), "basis": basis}
        )

    def run(self, model: Model, context: RunContext) -> Model:
        """See the class.

        Raises:
            LoadError, ArtefactError: teacher or student cannot be loaded, or the teacher is not
                the one that the stage began with.
            UsageError: teacher and student do not fit.
        """
        from dataclasses import replace

        from assay.models.load import load_model
        from assay.training import teachers
        from assay.training.loop import train

        teacher = model if self.teacher == _CURRENT else load_model(Path(self.teacher))
        known = {_CURRENT: model, teachers.STAGE: teacher, self.teacher: teacher}
        teachers.record({self.teacher: teachers.digest_of(self.teacher, teacher)}, known, context)
        student = self._student(model, context)
        plan = context.plan.model_copy(
            update={
                "model": student.card,
                "structures": tuple(s.part_name for s in student.structures),
            }
        )
        here = replace(context, plan=plan)
        trained = train(self, student, here, known)
        self._name_teacher(context)
        self.account(model, context)
        return trained

    def measure(self, model: Model, context: RunContext) -> None:
        """Name the teacher by the last line of its passport, as it lies in its folder."""
        super().measure(model, context)
        self._name_teacher(context)

    def _name_teacher(self, context: RunContext) -> None:
        if self.teacher == _CURRENT:
            return
        from assay.claims.passport import Passport
        from assay.models.load import model_folder

        passport, _ = Passport.read(model_folder(Path(self.teacher)))
        context.claim(
            Claim(
                kind=_LINEAGE,
                value=digest(passport),
                unit="sha256",
                nature="historical",
                conditions={"teacher": self.teacher},
                method="last line of the teacher's passport",
            )
        )

    def _student(self, model: Model, context: RunContext) -> Model:
        if self.student is None:
            return model
        student = self.student.load(
            Path.cwd(), context.task, context.dataset, context.derive("student"), door=context.door
        )
        told = {"name": student.card.name}
        if student.source_digest is not None:
            told["model_digest"] = student.source_digest
        context.record(student=told)
        if student.passport.origin is not None:
            # its own history descends to it beside that of the teacher
            before = context.used.get("inherits", {})
            theirs = {self.student.name: inherited(student.passport)}
            context.record(inherits={**before, **theirs})
        return student

    def _with_student(self, context: PlanContext) -> PlanContext:
        """The context as the student meets it."""
        assert self.student is not None
        card = self.student.card(Path.cwd())
        if card.modality != context.data.modality:
            raise UsageError(
                f"{card.name} reads {card.modality}, but {context.data.name} is "
                f"{context.data.modality} data",
                where="student",
                mend=f"choose a {context.data.modality} model",
            )
        structures: tuple[str, ...] = ("head",)
        folder = self._folder()
        if folder is not None:
            from assay.files import read_json

            raw = read_json(folder / "config.json").get("structures", [])
            structures = tuple(name for item in raw for name in item)
        return context.model_copy(update={"model": card, "structures": structures})

    def _folder(self) -> Path | None:
        """The student's folder, where it is a model of assay."""
        if self.student is None or self.student.architecture() is not None:
            return None
        folder = self.student.folder(Path.cwd())
        return folder if folder is not None and (folder / "head.json").is_file() else None

    def _behind(self) -> tuple[dict[str, Any] | None, str]:
        """What descends from the teacher (None: it is not there yet), and a note on it."""
        if self.teacher == _CURRENT:
            return {}, ""
        from assay.claims.passport import Passport

        folder = Path(self.teacher)
        folder = folder / "model" if (folder / "model").is_dir() else folder
        if not (folder / "head.json").is_file():
            return None, f"the teacher {self.teacher} is not there yet"
        try:
            passport, _ = Passport.read(folder)
        except AssayError as error:
            raise UsageError(error.what, where="teacher", mend=error.mend) from error
        found = inherited(passport)
        private = private_data(found)
        note = f"the teacher has read private data: {', '.join(private)}" if private else ""
        return found, note

    def _check_held_out(self, lineage: dict[str, Any], context: PlanContext) -> None:
        """A later audit that trains anew holds rows out, which this teacher has learnt from.

        Raises:
            UsageError: there is such an audit.
        """
        if context.data.name not in data_behind(lineage):
            return
        for stage in context.stages[context.stage + 1 :]:
            for name, part in stage.parts() if hasattr(stage, "parts") else ():
                if hasattr(part, "retrains") and part.retrains():
                    raise UsageError(
                        f"the teacher has learnt from the rows of {context.data.name}, and "
                        f"{stage.part_name}: {name} holds some of them out to train anew",
                        where="teacher",
                        mend="train the teacher in the same recipe and name it 'current', or leave "
                        f"out what {name} trains anew",
                    )
