"""The stage distill: a student takes its teacher's place, and says from whom it learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import (
    Bench,
    origin_of,
    save,
    table_bench,
    text_bench,
    write_reviews,
    write_table,
    write_tokenizer,
)

from assay.claims import Read
from assay.claims.lineage import digest
from assay.claims.passport import Passport
from assay.config import build_part
from assay.errors import ArtefactError, LoadError, UsageError
from assay.files import sha256
from assay.models.model import Model
from assay.recipe.schema import Recipe
from assay.training.loop import Job
from assay.verify.check import verify

SMALL = {"name": "mlp", "settings": {"hidden": [3]}}
QUALITY = {"audit": {"quality": {"bootstrap": 0, "baselines": False}}}


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A table and a model of it, in the current folder."""
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "table.csv")
    return table_bench(tmp_path)


def distill(**settings: Any) -> Any:
    # a clock must not choose between number formats where two runs are compared
    step = {"adamw": 0.001, "precision": "fp32"}
    return build_part("stage", {"distill": {"epochs": 2, "batch": 8, "step": step, **settings}})


def weights(model: Model) -> dict[str, torch.Tensor]:
    return {n: t.detach().clone() for n, t in model.network.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


# -- who learns ---------------------------------------------------------------------------------


def test_the_student_takes_the_place_of_the_current_model(found: Bench) -> None:
    before, context = weights(found.model), found.context()
    stage = distill(student=SMALL)
    student = stage.run(found.model, context)
    assert next(student.network.parameters()).shape[0] == 3
    said = stage.effects(context.plan).model
    # how many features the data have is known only once they are open
    assert student.card.model_copy(update={"parameters": None}) == said
    assert student.card.parameters == student.parameter_count()
    assert same(weights(found.model), before), "the teacher is left as it is"
    assert context.used["teachers"] == {"current": found.model.subject()}
    assert context.used["student"] == {"name": "mlp"}
    assert context.claims == []


def test_without_a_student_the_current_model_learns_from_a_folder(found: Bench) -> None:
    saved = save(found, Path("teacher"), distill(student=SMALL).run(found.model, found.context()))
    context = found.context()
    student = distill(teacher="teacher").run(found.model, context)
    assert weights(student).keys() == weights(found.model).keys()
    assert not same(weights(student), weights(found.model))
    assert same(weights(saved), weights(save_free(Path("teacher"))))
    last = sha256((Path("teacher") / "claims.jsonl").read_bytes().splitlines()[-1])
    assert context.used["teachers"] == {"teacher": last}
    (claim,) = context.claims
    assert (claim.kind, claim.value, claim.nature) == ("lineage.teacher", last, "historical")


def save_free(folder: Path) -> Model:
    from assay.models.load import load_model

    return load_model(folder)


def test_a_student_of_the_same_model_is_nobody() -> None:
    with pytest.raises(UsageError, match="teacher and student are the same model"):
        distill()


def test_a_missing_teacher_is_planned_for_and_not_run(found: Bench) -> None:
    stage = distill(teacher="nowhere")
    said = stage.effects(found.context().plan)
    assert said.notes == ("the teacher nowhere is not there yet",)
    with pytest.raises(LoadError, match="neither a model nor a run"):
        stage.run(found.model, found.context())


def test_a_student_of_other_data_is_refused(found: Bench) -> None:
    stage = distill(student={"name": "bert", "settings": {"hidden_size": 8, "heads": 2}})
    with pytest.raises(UsageError, match="bert reads text, but table is tabular data"):
        stage.effects(found.context().plan)


def test_a_student_that_is_one_of_our_folders_brings_its_structures(found: Bench) -> None:
    train = build_part("stage", {"finetune": {"parameters": {"lora": {"rank": 1}}, "epochs": 1}})
    save(found, Path("adapted"), train.run(found.model, found.context()))
    stage = distill(student="adapted")
    context = found.context()
    assert stage.effects(context.plan).structure_adds == ("lora",)
    student = stage.run(found.model, context)
    assert [s.part_name for s in student.structures] == ["head", "lora"]
    assert list(context.used["inherits"]) == ["adapted"]


# -- what is claimed ----------------------------------------------------------------------------


def test_another_network_voids_size_and_sparsity_and_keeps_what_it_descends_from(
    found: Bench,
) -> None:
    context = found.context().plan
    own = distill(teacher="teacher").effects(context)
    other = distill(student=SMALL).effects(context)
    assert own.does_keep("size.parameters")
    for kind in ("size.parameters", "sparsity.zeros", "quality.accuracy", "transfer.gain"):
        assert not other.does_keep(kind), kind
    assert other.does_keep("privacy.epsilon") and other.does_keep("lineage.teacher")
    # nothing is known of the teacher that is not there
    assert not own.does_keep("privacy.epsilon")
    reads = [(r.split, r.influences) for r in other.reads]
    assert reads[0] == ("train", ("preprocessing",)) and ("train", ("weights",)) in reads


def test_a_teacher_that_has_read_private_data_is_noted(found: Bench) -> None:
    card = found.dataset.card.model_copy(update={"name": "ward", "private": True})
    seen = Read(split="train", influences=("weights",), why="steps", private=True)
    origin = origin_of(found).model_copy(update={"data": card, "reads": (seen,)})
    model = found.model
    model.with_passport(model.passport.append(origin)).save(Path("teacher"))
    stage, context = distill(teacher="teacher"), found.context()
    said = stage.effects(context.plan)
    assert said.notes == ("the teacher has read private data: ward",)
    assert not said.does_keep("privacy.epsilon")
    stage.run(found.model, context)
    inherits = context.used["inherits"]["teacher"]
    assert [o["data"] for o in inherits["origins"]] == ["ward"]
    assert inherits["reads"] == [
        {
            "split": "train",
            "influences": ["weights"],
            "why": "steps",
            "private": True,
            "data": "ward",
            "data_private": True,
            "stage": "model",
        }
    ]


# -- resuming -----------------------------------------------------------------------------------


class StoppedError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("terms", [{"distillation": None}, {"features": None, "supervised": 0.5}])
def test_a_resumed_stage_ends_with_the_same_bits(
    found: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terms: dict[str, Any]
) -> None:
    save(found, Path("teacher"))
    stage = distill(teacher="teacher", student=SMALL, objective=terms)
    whole = stage.run(found.model, found.context())
    work = tmp_path / "work"
    work.mkdir()
    stop_after_three(stage, found, work, monkeypatch)
    parts = stage.run(found.model, found.context(work))
    assert same(weights(whole), weights(parts))


def stop_after_three(stage: Any, found: Bench, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Job.step

    def stop(job: Job) -> None:
        step(job)
        if job.steps_done == 3:
            job.checkpoint()
            raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(Job, "step", stop)
        with pytest.raises(StoppedError):
            stage.run(found.model, found.context(work))


def test_a_teacher_that_changed_between_is_refused(
    found: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = save(found, Path("teacher"))
    stage = distill(teacher="teacher", student=SMALL)
    work = tmp_path / "work"
    work.mkdir()
    stop_after_three(stage, found, work, monkeypatch)
    save(found, Path("teacher"), saved)  # its passport goes on: another teacher now
    with pytest.raises(ArtefactError, match="not the one that this stage began with") as caught:
        stage.run(found.model, found.context(work))
    assert caught.value.exit_code == 7


# -- whole recipes ------------------------------------------------------------------------------


def recipe(name: str, model: Any, *stages: Any, seed: int = 0) -> Recipe:
    plain = {"model": model, "data": "breast_cancer", "seed": seed, "stages": list(stages)}
    return Recipe.from_data({"name": name, **plain})


MLP = {"name": "mlp", "settings": {"hidden": [64, 32]}}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_recipe_that_distils_its_own_model(here: Path) -> None:
    stages = ({"finetune": {"epochs": 3}}, {"distill": {"student": SMALL, "epochs": 3}}, QUALITY)
    made = recipe("own", MLP, *stages)
    deep = made.plan(deep=True).deep
    done = made.run(threads=1)
    # 30 features, 3 hidden units, 2 classes
    size = 30 * 3 + 3 + 3 * 2 + 2
    assert [s.total for s in deep.stages] == [4130, size, size]
    model = save_free(done.model)
    assert model.parameter_count() == size and model.card.parameters == size
    passport, _ = Passport.read(done.model)
    assert passport.origin is not None and passport.origin.model.parameters != size
    (record,) = [s.record for s in passport.stages() if s.record.name == "distill"]
    assert record.effects.model is not None and record.used["student"] == {"name": "mlp"}
    assert {f.status for f in verify(done.folder).findings} == {"holds"}


def test_a_recipe_that_learns_from_a_run_and_verify_finds_the_teacher(here: Path) -> None:
    teacher = recipe("big", MLP, {"finetune": {"epochs": 3}}, QUALITY).run(threads=1)
    folder = str(teacher.folder.relative_to(here)) if teacher.folder.is_absolute() else None
    folder = folder or str(teacher.folder)
    stage = {"distill": {"teacher": folder, "epochs": 2}}
    made = recipe("small", {"name": "mlp", "settings": {"hidden": [8]}}, stage, QUALITY)
    done = made.run(threads=1)
    passport, _ = Passport.read(done.model)
    record = passport.stages()[0].record
    theirs, _ = Passport.read(teacher.model)
    assert record.used["teachers"] == {folder: digest(theirs)}
    inherits = record.used["inherits"][folder]
    assert [o["recipe"] for o in inherits["origins"]] == ["big"]
    assert {"finetune", "audit", "model"} == {r["stage"] for r in inherits["reads"]}

    def lineage() -> Any:
        return next(f for f in verify(done.folder).findings if f.claim.kind == "lineage.teacher")

    assert lineage().status == "holds"
    # a teacher that went on learning is another one
    changed = save_free(teacher.model)
    origin = theirs.origin
    assert origin is not None
    changed.with_passport(changed.passport.append(origin)).save(teacher.model)
    assert lineage().status == "fails"
    teacher.model.rename(here / "gone")
    assert lineage().status == "unverifiable"


def test_what_trains_anew_must_not_learn_held_out_rows_from_a_teacher(here: Path) -> None:
    teacher = recipe("big", MLP, {"finetune": {"epochs": 1}}, QUALITY).run(threads=1)
    folds = {"audit": {"quality": {"bootstrap": 0, "baselines": False, "folds": 2}}}
    small = {"name": "mlp", "settings": {"hidden": [8]}}
    with pytest.raises(UsageError, match="audit: quality holds some of them out to train anew"):
        recipe(
            "small", small, {"distill": {"teacher": str(teacher.folder), "epochs": 1}}, folds
        ).run(threads=1)
    # a term of another stage is found out when it is trained anew
    term = {"distillation": {"teacher": str(teacher.folder)}}
    with pytest.raises(UsageError, match="rows of breast_cancer that are held out"):
        recipe("term", small, {"finetune": {"epochs": 1, "objective": term}}, folds).run(threads=1)
    # the current model is trained anew itself
    own = ({"finetune": {"epochs": 1}}, {"distill": {"student": small, "epochs": 1}}, folds)
    assert recipe("own", MLP, *own).run(threads=1).exit_code == 0


def test_a_student_agrees_more_with_its_teacher_than_one_that_learns_alone(here: Path) -> None:
    """Two equal students on breast_cancer, three seeds: how often they decide as the teacher does,
    on the rows that neither was trained on. The teacher stopped early: what it says is not what
    the labels say.
    """
    run = recipe("big", MLP, {"finetune": {"epochs": 5}}, QUALITY).run(threads=1)
    teacher = save_free(run.model)
    settings = {"epochs": 30, "step": {"adamw": 0.01}, "curves": False}
    small = {"name": "mlp", "settings": {"hidden": [8]}}
    agreement: dict[str, list[float]] = {"distill": [], "finetune": []}
    for seed in range(3):
        for name, shares in agreement.items():
            more = {"teacher": str(run.folder)} if name == "distill" else {}
            made = recipe(name, small, {name: {**settings, **more}}, seed=seed)
            student = save_free(made.run(threads=1).model)
            data = made.data.load(Path.cwd(), made.task)
            rows = data.table.take(np.concatenate([data.splits["test"], data.splits["valid"]]))
            calls = [
                np.asarray(m.predict(rows).probabilities).argmax(1) for m in (teacher, student)
            ]
            shares.append(float((calls[0] == calls[1]).mean()))
    for alone, taught in zip(agreement["finetune"], agreement["distill"], strict=True):
        assert taught > alone
    assert np.mean(agreement["distill"]) > np.mean(agreement["finetune"]) + 0.01


def test_a_text_student_learns_from_hidden_states_and_attention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_reviews(tmp_path / "reviews.jsonl")
    write_tokenizer(tmp_path / "words")
    found = text_bench(tmp_path, dropout=0.0)
    with torch.no_grad():  # a teacher that has just been made looks everywhere alike
        for name, value in found.model.network.named_parameters():
            if "query" in name or "key" in name:
                value.mul_(30.0)
    sizes = {"hidden_size": 6, "layers": 1, "heads": 3, "intermediate_size": 8, "dropout": 0.0}
    student = {"name": "bert", "settings": sizes, "tokenizer": "words", "max_length": 16}
    pairs = {"backbone.encoder.layer.1": "backbone.encoder.layer.0"}
    objective = {"distillation": None, "features": {"layers": pairs}, "attention": None}
    stage = distill(student=student, objective=objective, epochs=4, step={"adamw": 0.02})
    context = found.context()
    made = stage.run(found.model, context)
    losses = [line for line in context.metrics.lines if line["kind"] == "epoch"]
    trained = [line for line in losses if line["split"] == "train"]
    for name in ("loss.features", "loss.attention", "loss"):
        assert trained[-1][name] < trained[0][name], name
    assert context.used["attention"] == "eager"
    assert all(not m._forward_hooks for m in made.network.modules())
