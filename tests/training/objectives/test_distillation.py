"""Learning from a teacher's outputs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.claims import DataCard, ModelCard, PlanContext
from assay.claims.records import Origin
from assay.config import build_part, dump_part
from assay.data.config import DataConfig
from assay.data.door import LocalDoor
from assay.errors import LoadError, UsageError
from assay.files import sha256
from assay.models.hub import ModelConfig
from assay.tasks.base import infer
from assay.training.batches import Batch
from assay.training.context import RunContext
from assay.training.objectives.distillation import divergence
from assay.training.parts import MODEL, Call, Setup, Term

PLAIN = PlanContext(model=ModelCard(name="m"), data=DataCard(name="d"), task=None)


def softmax(values: np.ndarray[Any, Any], temperature: float) -> np.ndarray[Any, Any]:
    powers = np.exp(values / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@given(temperature=st.floats(0.5, 10.0), seed=st.integers(0, 99))
def test_divergence_is_the_closed_form(temperature: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(size=(2, 5, 4))
    p, q = softmax(teacher, temperature), softmax(student, temperature)
    expected = temperature**2 * (p * np.log(p / q)).sum(axis=1)
    got = divergence(torch.from_numpy(student), torch.from_numpy(teacher).float(), temperature)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-4, atol=1e-6 * temperature**2)


def test_its_gradient_is_the_difference_of_probabilities_times_the_temperature() -> None:
    """Hinton et al., section 2.1: T^2 keeps the gradient's size when T changes."""
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(3, 4, generator=generator).requires_grad_()
    teacher = torch.randn(3, 4, generator=generator)
    (slope,) = torch.autograd.grad(divergence(student, teacher, 3.0).sum(), student)
    expected = 3.0 * ((student / 3.0).softmax(1) - (teacher / 3.0).softmax(1))
    torch.testing.assert_close(slope, expected.detach(), rtol=1e-4, atol=1e-6)


def test_equal_outputs_up_to_a_shift_lose_nothing() -> None:
    teacher = torch.tensor([[1.0, 2.0, -3.0]])
    assert float(divergence(teacher + 7.0, teacher, 2.0)) == pytest.approx(0.0, abs=1e-6)


class Teacher:
    """A teacher with its own order of classes; counts how often it is asked."""

    def __init__(self, classes: tuple[str, ...] = ("b", "a")) -> None:
        self.classes, self.asked = classes, 0
        self.preprocessing = SimpleNamespace(encode=lambda rows: rows)

    def outputs(self, encoded: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        self.asked += 1
        return np.stack([encoded, -encoded], axis=1).astype(np.float32)


SPLITS = {"train": np.array([1.0, 2.0, 3.0]), "valid": np.array([10.0])}


def setup(classes: tuple[str, ...] | None = ("a", "b")) -> Setup:
    context: Any = SimpleNamespace(dataset=SimpleNamespace(rows=lambda split: SPLITS[split]))
    model: Any = SimpleNamespace(classes=classes)
    return Setup(model=model, networks={}, context=context)


def term(monkeypatch: pytest.MonkeyPatch, teacher: Teacher) -> Term:
    monkeypatch.setattr("assay.models.load.load_model", lambda folder: teacher)
    part = build_part("term", {"distillation": {"teacher": "runs/big/1", "temperature": 1.0}})
    assert isinstance(part, Term)
    return part


def loss(
    part: Term, state: Any, rows: list[int], outputs: torch.Tensor, training: bool = True
) -> torch.Tensor:
    n = len(rows)
    batch = Batch({}, torch.zeros(n), torch.ones(n), torch.tensor(rows), torch.arange(n), n)
    call = Call(batch, setup(), 0, lambda p: outputs, lambda _: torch.Generator(), training)
    return part.loss(call, state).rows[MODEL]


def test_teacher_outputs_are_computed_once_and_matched_by_row_and_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    teacher = Teacher()
    part = term(monkeypatch, teacher)
    state = part.init(setup())
    assert teacher.asked == 1
    # the teacher gives (b, a) = (x, -x): the student's order is (a, b) = (-x, x)
    exact = torch.tensor([[-3.0, 3.0], [-1.0, 1.0]])
    torch.testing.assert_close(loss(part, state, [2, 0], exact), torch.zeros(2), rtol=0, atol=1e-6)
    assert bool((loss(part, state, [0, 2], exact) > 0.01).all())
    assert teacher.asked == 1
    valid = torch.tensor([[-10.0, 10.0]])
    assert float(loss(part, state, [0], valid, training=False)) == pytest.approx(0.0, abs=1e-6)
    assert teacher.asked == 2


@pytest.mark.parametrize(
    ("theirs", "ours", "what"),
    [
        (("a", "c"), ("a", "b"), "the teacher's classes are a, c, the student's a, b"),
        (("a", "b", "c"), ("a", "b"), "the teacher's classes are a, b, c, the student's a, b"),
        (("a", "b"), None, "the teacher's classes are a, b, the student's none"),
    ],
)
def test_other_classes_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    theirs: tuple[str, ...],
    ours: tuple[str, ...] | None,
    what: str,
) -> None:
    part = term(monkeypatch, Teacher(theirs))
    with pytest.raises(UsageError) as caught:
        part.init(setup(ours))
    assert caught.value.what == what


def test_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert term(monkeypatch, Teacher()).capabilities(PLAIN).needs == {"class_logits"}


def test_a_saved_teacher_teaches_its_own_outputs_and_is_named_by_its_passport(
    tmp_path: Path,
) -> None:
    """A student equal to its teacher loses nothing on any row, of either split."""
    (tmp_path / "t.csv").write_text(
        "a,b,y\n" + "".join(f"{i % 7},{i * i % 5},{'no' if i % 3 else 'yes'}\n" for i in range(60))
    )
    data = DataConfig(path="t.csv", label="y")
    task = infer(data.card(tmp_path))
    dataset = data.load(tmp_path, task)
    model = ModelConfig(name="mlp", settings={"hidden": [4]}).load(
        tmp_path, task, dataset, 0, door=LocalDoor()
    )
    origin = Origin(
        recipe="r",
        assay="0",
        task=dump_part(task),
        model=model.card,
        data=dataset.card,
        data_digest=dataset.digest,
        data_config={},
    )
    model.with_passport(model.passport.append(origin)).save(tmp_path / "teacher")
    plan = PLAIN.model_copy(update={"data": dataset.card, "task": task})
    given = Setup(model=model, networks={}, context=RunContext(dataset=dataset, plan=plan))
    part = build_part("term", {"distillation": {"teacher": str(tmp_path / "teacher")}})
    state = part.init(given)
    for split, training in (("train", True), ("valid", False)):
        n = dataset.size(split)
        outputs = torch.from_numpy(
            model.outputs(model.preprocessing.encode(dataset.rows(split))).copy()
        )
        rows = loss(part, state, list(range(n)), outputs, training)
        torch.testing.assert_close(rows, torch.zeros(n), rtol=0, atol=1e-5)
        assert float(outputs.std(dim=0).min()) > 1e-3  # rows differ: the order is checked
    last = (tmp_path / "teacher" / "claims.jsonl").read_bytes().splitlines()[-1]
    assert part.lineage(given) == {str(tmp_path / "teacher"): sha256(last)}


def test_a_missing_teacher_is_a_load_error(tmp_path: Path) -> None:
    part = build_part("term", {"distillation": {"teacher": str(tmp_path / "none")}})
    with pytest.raises(LoadError, match="neither a model nor a run that has finished"):
        part.init(setup())
    with pytest.raises(LoadError):
        part.lineage(setup())


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"teacher": "t", "same": True}])
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        build_part("term", {"distillation": settings})
