"""The task's loss, and where class weights come from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from assay.claims import DataCard, ModelCard, PlanContext
from assay.config import build_part
from assay.data.door import LocalDoor
from assay.errors import UsageError
from assay.training.batches import Batch
from assay.training.parts import MODEL, Call, Setup, Term

CLASSES = ("no", "yes", "maybe")
TARGETS = np.array([0, 0, 0, 1, 1, 2, 0, 0])
PLAIN = PlanContext(model=ModelCard(name="m"), data=DataCard(name="d"), task=None)


def term(**settings: Any) -> Term:
    part = build_part("term", {"supervised": settings})
    assert isinstance(part, Term)
    return part


def setup(
    units: list[int] | None = None,
    door: Any = None,
    task: str = "tabular-classification",
    classes: tuple[str, ...] | None = CLASSES,
) -> Setup:
    dataset = SimpleNamespace(
        targets=lambda split: {"train": TARGETS}[split],
        units=lambda split: {"train": np.array(units or range(len(TARGETS)))}[split],
    )
    data = DataCard(name="d", unit="patient" if units else None)
    context: Any = SimpleNamespace(
        dataset=dataset,
        door=door or LocalDoor(),
        task=build_part("task", task),
        plan=PLAIN.model_copy(update={"data": data}),
    )
    model: Any = SimpleNamespace(classes=classes)
    return Setup(model=model, networks={}, context=context)


def losses(part: Term, given: Setup, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    n = len(targets)
    batch = Batch({}, targets, torch.ones(n), torch.arange(n), torch.arange(n), n)
    call = Call(batch, given, 0, lambda player: outputs, lambda name: torch.Generator())
    found = part.loss(call, part.init(given))
    assert set(found.rows) == {MODEL}
    assert found.units == {}
    return found.rows[MODEL]


LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.1, 0.2, 0.3]])
LABELS = torch.tensor([1, 2])


def test_plain_cross_entropy_of_rows() -> None:
    expected = functional.cross_entropy(LOGITS, LABELS, reduction="none")
    torch.testing.assert_close(losses(term(), setup(), LOGITS, LABELS), expected)


def test_smoothed_labels() -> None:
    got = losses(term(label_smoothing=0.3), setup(), LOGITS, LABELS)
    logs = LOGITS.log_softmax(1)
    expected = -(0.7 * logs[torch.arange(2), LABELS] + 0.1 * logs.sum(1))
    torch.testing.assert_close(got, expected)


def test_balanced_weights_are_n_over_k_times_the_count() -> None:
    given = setup()
    weights = term(class_weights="balanced").init(given)
    # 5, 2 and 1 of 8 rows
    torch.testing.assert_close(weights, torch.tensor([8 / 15, 8 / 6, 8 / 3]))
    assert given.context.door.asked == ["supervised.class_counts"]  # type: ignore[attr-defined]
    plain = losses(term(), given, LOGITS, LABELS)
    got = losses(term(class_weights="balanced"), given, LOGITS, LABELS)
    torch.testing.assert_close(got, plain * weights[LABELS])


def test_balanced_weights_leave_the_mean_loss_of_equal_rows_alone() -> None:
    weights = term(class_weights="balanced").init(setup())
    assert float(weights[torch.from_numpy(TARGETS)].mean()) == pytest.approx(1.0)


def test_the_one_door_gets_one_bounded_row_a_unit() -> None:
    class Recorder(LocalDoor):
        def bounded_sum(self, name: str, values: Any, bound: float) -> Any:
            self.values, self.bound = values, bound
            return super().bounded_sum(name, values, bound)

    door = Recorder()
    term(class_weights="balanced").init(setup(door=door))
    assert door.bound == 1.0
    np.testing.assert_array_equal(door.values, np.eye(3)[TARGETS])
    # two patients: counts of each one's rows, bounded only where the recipe says so
    units = [0, 0, 0, 0, 1, 1, 1, 1]
    weights = term(class_weights="balanced").init(setup(units, door))
    assert door.bound == float("inf")
    np.testing.assert_array_equal(door.values, [[3, 1, 0], [2, 1, 1]])
    torch.testing.assert_close(weights, torch.tensor([8 / 15, 8 / 6, 8 / 3]))
    term(class_weights="balanced", unit_rows=2).init(setup(units, door))
    assert door.bound == 2.0


def test_noise_below_one_does_not_turn_a_weight_around() -> None:
    class Noisy(LocalDoor):
        def bounded_sum(self, name: str, values: Any, bound: float) -> Any:
            return np.array([5.0, -2.0, 0.0])

    weights = term(class_weights="balanced").init(setup(door=Noisy()))
    torch.testing.assert_close(weights, torch.tensor([7 / 15, 7 / 3, 7 / 3]))


def test_given_weights_read_no_data() -> None:
    given = setup()
    weights = term(class_weights={"yes": 3, "no": 0.5}).init(given)
    assert weights.tolist() == [0.5, 3.0, 1.0]
    assert given.context.door.asked == []  # type: ignore[attr-defined]


def test_classes_may_be_called_by_numbers() -> None:
    given = setup(classes=("0", "1"))
    assert term(class_weights={0: 2.0, 1: 4.0}).init(given).tolist() == [2.0, 4.0]


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown class 'yess'; did you mean 'yes'"):
        term(class_weights={"yess": 2.0}).init(setup())


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"label_smoothing": 1.0}, "supervised.label_smoothing"),
        ({"class_weights": {"yes": 0.0}}, "supervised.class_weights"),
        ({"class_weights": "ballanced"}, "supervised.class_weights"),
        ({"weight": -1}, "supervised.weight"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], where: str) -> None:
    with pytest.raises(UsageError) as caught:
        term(**settings)
    assert caught.value.where is not None
    assert caught.value.where.startswith(where)


def test_regression_is_squared_error() -> None:
    given = setup(task="tabular-regression", classes=None)
    got = losses(term(), given, torch.tensor([[1.0], [2.0]]), torch.tensor([0.5, 4.0]))
    assert got.tolist() == [0.25, 4.0]


def test_what_it_needs() -> None:
    assert term().capabilities(PLAIN).needs == {"labels"}
    for settings in ({"label_smoothing": 0.1}, {"class_weights": "balanced"}):
        assert term(**settings).capabilities(PLAIN).needs == {"labels", "class_logits"}
    assert term().lineage(setup()) == {}
    assert term(class_weights="balanced").asks() == ("class counts",)
    assert term().asks() == term(class_weights={"yes": 2.0}).asks() == ()
