from __future__ import annotations

import numpy as np
import pytest
import torch

from assay import registry
from assay.claims import DataCard, ModelCard, PlanContext
from assay.claims.capabilities import Refusal, conflicts
from assay.config import build_part, dump_part
from assay.data.schema import Column, Schema
from assay.errors import LoadError, UsageError
from assay.tasks.base import Task, infer

NAMES = [
    "image-classification",
    "tabular-classification",
    "tabular-regression",
    "text-classification",
]


def task(name: str) -> Task:
    made = build_part("task", name, "task")
    assert isinstance(made, Task)
    return made


def context(task_: Task, model: str = "tabular", label: str | None = "y") -> PlanContext:
    return PlanContext(
        model=ModelCard(name="net", modality=model),
        data=DataCard(name="d", label=label, splits=("train", "test")),
        task=task_,
    )


def test_the_tasks() -> None:
    assert registry.names("task") == NAMES
    assert {n: (task(n).modality, task(n).kind) for n in NAMES} == {
        "image-classification": ("image", "classification"),
        "tabular-classification": ("tabular", "classification"),
        "tabular-regression": ("tabular", "regression"),
        "text-classification": ("text", "classification"),
    }


def test_positive_is_a_name() -> None:
    made = build_part("task", {"tabular-classification": True}, "task")
    assert made.positive == "true"
    assert dump_part(made) == {"tabular-classification": {"positive": "true"}}
    assert build_part("task", {"tabular-classification": {"positive": 1}}).positive == "1"
    with pytest.raises(UsageError, match="unknown key 'positiv'; did you mean 'positive'"):
        build_part("task", {"tabular-classification": {"positiv": "a"}}, "task")


def test_outputs() -> None:
    assert task("text-classification").outputs(("a", "b", "c")) == 3
    assert task("tabular-regression").outputs(None) == 1


def test_row_losses_of_classes() -> None:
    outputs = torch.tensor([[0.0, 1.0, -1.0], [2.0, 0.0, 0.5]])
    targets = torch.tensor([1, 2])
    made = task("tabular-classification")
    logs = torch.log_softmax(outputs.double(), 1)
    plain = -logs[torch.arange(2), targets]
    torch.testing.assert_close(made.row_losses(outputs, targets).double(), plain)
    smooth = made.row_losses(outputs, targets, label_smoothing=0.3).double()
    torch.testing.assert_close(smooth, 0.7 * plain - 0.3 * logs.mean(1))
    weights = torch.tensor([1.0, 2.0, 0.5])
    weighted = made.row_losses(outputs, targets, class_weights=weights).double()
    torch.testing.assert_close(weighted, plain * torch.tensor([2.0, 0.5]).double())


def test_row_losses_are_float32_and_differentiable() -> None:
    outputs = torch.zeros(4, 2, dtype=torch.bfloat16, requires_grad=True)
    losses = task("text-classification").row_losses(outputs, torch.tensor([0, 1, 0, 1]))
    assert (losses.dtype, losses.shape) == (torch.float32, (4,))
    assert torch.autograd.grad(losses.sum(), outputs)[0].shape == (4, 2)


def test_row_losses_of_values() -> None:
    losses = task("tabular-regression").row_losses(
        torch.tensor([[1.0], [0.5]]), torch.tensor([3.0, 0.5])
    )
    assert losses.tolist() == [4.0, 0.0]


def test_probabilities_and_decisions() -> None:
    made = task("tabular-classification")
    outputs = np.array([[0.0, np.log(3)], [1000.0, 0.0], [0.5, 0.5]], dtype=np.float32)
    found = made.probabilities(outputs)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.array([[0.25, 0.75], [1, 0], [0.5, 0.5]]), atol=1e-7)
    assert made.decide(outputs).tolist() == [1, 0, 0]
    assert made.decide(outputs).dtype == np.int64


def test_values_are_their_own_decision() -> None:
    made = task("tabular-regression")
    outputs = np.array([[1.5], [-2.0]], dtype=np.float32)
    assert made.probabilities(outputs).tolist() == [[1.5], [-2.0]]
    assert made.decide(outputs).tolist() == [1.5, -2.0]


@pytest.mark.parametrize("name", NAMES)
def test_a_task_fits_a_model_of_its_modality(name: str) -> None:
    made = task(name)
    fitting = made.capabilities(context(made, made.modality))
    assert conflicts([("task", fitting)]) == []
    assert ("scalar_output" in fitting.gives) == (made.kind == "regression")
    assert "valid_split" not in fitting.gives


def test_a_model_of_another_modality_is_refused() -> None:
    made = task("tabular-classification")
    assert conflicts([("task", made.capabilities(context(made, "text")))]) == [
        Refusal(
            what="task needs that the model reads tabular (the model 'net' reads text)",
            where="task",
            mend="choose a tabular model ('assay models' lists them), or a text task",
        )
    ]


def test_data_without_a_label_are_refused() -> None:
    made = task("tabular-classification")
    found = conflicts([("task", made.capabilities(context(made, label=None)))])
    assert [refusal.what for refusal in found] == ["task needs that the data have a label column"]


@pytest.mark.parametrize(
    ("card", "name"),
    [
        (DataCard(name="d", label="y", modality="text"), "text-classification"),
        (DataCard(name="d", label="y", modality="image"), "image-classification"),
        (DataCard(name="d", label="y"), "tabular-classification"),
        (DataCard(name="d", label="y", classes=3), "tabular-classification"),
        (DataCard(name="d", label="y", classes=0), "tabular-regression"),
    ],
)
def test_inferred_from_a_card(card: DataCard, name: str) -> None:
    assert infer(card) == task(name)


def schema(label: str, *features: str) -> Schema:
    columns = {f"f{i}": Column.model_validate({"kind": kind}) for i, kind in enumerate(features)}
    return Schema(columns={**columns, "y": Column.model_validate({"kind": label, "role": "label"})})


@pytest.mark.parametrize(
    ("known", "name"),
    [
        (schema("categorical", "numeric", "text"), "text-classification"),
        (schema("categorical", "numeric", "text", "image"), "image-classification"),
        (schema("boolean", "numeric"), "tabular-classification"),
        (schema("numeric", "numeric"), "tabular-regression"),
        (schema("numeric", "numeric", "text"), "tabular-regression"),
    ],
)
def test_inferred_from_a_schema(known: Schema, name: str) -> None:
    assert infer(known) == task(name)


def test_nothing_to_predict() -> None:
    with pytest.raises(LoadError, match="there is no label column; name it with 'label:'"):
        infer(DataCard(name="d"))
