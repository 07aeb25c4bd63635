"""Models that a training stage learns from: found by name, named in the passport, held to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.claims.lineage import data_behind, digest, inherited
from assay.errors import ArtefactError, UsageError
from assay.files import read_json, write_json

if TYPE_CHECKING:
    from assay.models.model import Model
    from assay.training.context import RunContext
    from assay.training.parts import Setup

#: the model that came into the stage
CURRENT = "current"
#: the key of `Setup.teachers` under which a stage's own teacher stands
STAGE = "stage"
_FILE = "teachers.json"
#: the way out where a teacher has learnt from rows that an audit holds out
RETRAIN_MEND = (
    "train the teacher in the same recipe and name it 'current', or leave out audits that train "
    "anew"
)


def teacher(name: str | None, setup: Setup) -> Model:
    """The teacher that a term names; each is loaded once a stage.

    Args:
        name: folder of a model or of a run, `current`, or None for the stage's own.
        setup: the stage's set-up.

    Raises:
        LoadError, ArtefactError: it cannot be loaded.
        UsageError: the stage has no teacher of its own.
    """
    from assay.models.load import load_model

    key = STAGE if name is None else name
    if key not in setup.teachers:
        if name is None:
            raise UsageError(
                "no teacher is named",
                where="objective",
                mend="name a folder or 'current' under teacher, or use the stage distill",
            )
        if name == CURRENT:
            raise UsageError("there is no current model", where="objective", mend="name a folder")
        setup.teachers[key] = load_model(Path(name))
    return setup.teachers[key]


def lineage(name: str | None, setup: Setup) -> dict[str, str]:
    """The teacher -> digest of its passport's last line (`current`: of its weights, for its
    passport goes on in the student's).

    Raises:
        LoadError, ArtefactError: the folder holds no model, or a damaged one.
    """
    from assay.claims.passport import Passport
    from assay.models.load import model_folder

    if name is None:
        return {}  # the stage speaks of its own teacher
    if name == CURRENT:
        return {CURRENT: teacher(name, setup).subject()}
    passport, _ = Passport.read(model_folder(Path(name)))
    return {name: digest(passport)}


def record(found: dict[str, str], models: Mapping[str, Model], context: RunContext) -> None:
    """Record which models a stage reads and what descends from them; refuse others than before.

    Args:
        found: teacher -> digest.
        models: name -> teacher, of those that are loaded.
        context: the stage's context; its work folder keeps the digests while the stage runs.

    Raises:
        ArtefactError: the stage began, or was recorded, with another teacher.
    """
    if not found:
        return
    path = context.work / _FILE if context.work is not None else None
    before = dict(context.used.get("teachers", {}))
    if path is not None and path.is_file():
        before = read_json(path)
    for name, old in before.items():
        # a stage trained anew on other rows has another current model, and that is no fault
        if name != CURRENT and found.get(name, old) != old:
            raise ArtefactError(
                "the teacher is not the one that this stage began with",
                where=name,
                mend="restore it, or start a new run",
            )
    context.record(teachers={**before, **found})
    if path is not None:
        write_json(path, context.used["teachers"])
    theirs = {n: inherited(models[n].passport) for n in found if n != CURRENT and n in models}
    for name, one in theirs.items():
        _knows_no_held_out_rows(name, one, context)
    if theirs:
        context.record(inherits={**context.used.get("inherits", {}), **theirs})


def _knows_no_held_out_rows(name: str, theirs: dict[str, Any], context: RunContext) -> None:
    """A model trained anew on some of the rows must not learn the others from its teacher.

    Raises:
        UsageError: the data were divided anew, and the teacher has learnt from them whole.
    """
    whole = context.dataset
    while getattr(whole, "origin", None) is not None:
        assert whole.origin is not None
        whole = whole.origin
    if whole is not context.dataset and whole.card.name in data_behind(theirs):
        raise UsageError(
            f"the teacher {name} has learnt from rows of {whole.card.name} that are held out when "
            "models are trained anew",
            where=f"stages[{context.stage}]",
            mend=RETRAIN_MEND,
        )


def same_reading(model: Model, setup: Setup, where: str) -> None:
    """Refuse a teacher that encodes rows otherwise than the student.

    Raises:
        UsageError: it cannot be given the student's inputs.
    """
    theirs, ours = model.preprocessing, setup.model.preprocessing
    plain = {"target": None}
    if type(theirs) is not type(ours) or (
        theirs.model_copy(update=plain) != ours.model_copy(update=plain)
    ):
        raise UsageError(
            "teacher and student read rows in different ways",
            where=where,
            mend="give the student the teacher's image_size or tokenizer, or leave it out",
        )


def digest_of(name: str, model: Model) -> str:
    """What names a teacher in a record: see `lineage`."""
    return model.subject() if name == CURRENT else digest(model.passport)
