"""The private door: what it adds, what it charges, what it refuses; and all who ask through it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from assay.data.door import Door, LocalDoor
from assay.errors import BudgetError, UsageError
from assay.privacy import accountant
from assay.privacy.door import PrivateDoor
from assay.privacy.events import Event
from assay.privacy.randomness import Stream

RARE = 1e-6


def door(noise: float = 1.0, seed: int = 1, **settings: Any) -> PrivateDoor:
    about = {"data": "d1", "unit": "row", **settings}
    return PrivateDoor(Stream.open(None, insecure_seed=seed), noise_multiplier=noise, **about)


def test_it_is_a_door_that_names_its_noise() -> None:
    given: Door = door(2.5)
    assert given.bounded_sum("a", np.ones((3, 2)), 1.0).shape == (2,)
    assert getattr(given, "noise_multiplier", 0.0) == 2.5
    assert getattr(LocalDoor(), "noise_multiplier", 0.0) == 0.0


def test_every_question_is_charged_as_it_was_noised() -> None:
    private = door(1.5, data="keyed", unit="patient")
    private.bounded_sum("counts", np.ones((3, 2)), 2.0)
    private.bounded_sum("means", np.ones((3, 2)), 0.1)
    assert private.asked == ["counts", "means"]
    assert private.events == [
        Event(noise_multiplier=1.5, data="keyed", unit="patient", what=name)
        for name in ("counts", "means")
    ]
    two = Event(noise_multiplier=1.5, steps=2)
    assert accountant.epsilon(private.events, 1e-5) == accountant.epsilon([two], 1e-5)


def test_a_sum_is_the_plain_one_with_noise_of_the_bound() -> None:
    values = np.random.default_rng(0).normal(size=(500, 3))
    plain = LocalDoor().bounded_sum("a", values, 1.2)
    private = door(4.0)
    errors = np.array([private.bounded_sum("a", values, 1.2) - plain for _ in range(700)])
    assert stats.kstest(errors.ravel() / (4.0 * 1.2), "norm").pvalue > RARE


def test_questions_never_share_noise_and_the_same_run_gets_the_same_answers() -> None:
    asked = [("a", 2, 1.0), ("a", 2, 1.0), ("b", 2, 1.0), ("a", 3, 1.0), ("a", 2, 1.5)]
    answers = []
    for given in (door(), door(), door(seed=2), door(data="d2"), door(1.1), door(unit="patient")):
        answers.append(
            [given.bounded_sum(name, np.zeros((4, d)), bound) / bound for name, d, bound in asked]
        )
    first, again, *others = answers
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    heads = [float(a[0]) for one in (first, *others) for a in one]
    assert len(set(heads)) == len(heads)


def test_another_first_question_gets_other_noise() -> None:
    """A resumed run that asks otherwise must not show the same noise on another sum."""
    asked = [(2, 1.0), (3, 1.0), (2, 1.5)]
    heads = [float(door().bounded_sum("a", np.zeros((4, d)), b)[0] / b) for d, b in asked]
    assert len(set(np.round(heads, 9))) == 3


def test_without_a_bound_there_is_no_answer() -> None:
    private = door()
    with pytest.raises(UsageError) as caught:
        private.bounded_sum("preprocessing.mean", np.ones((3, 1)), math.inf)
    assert caught.value.line() == (
        "preprocessing.mean: nothing bounds what one privacy unit adds to preprocessing.mean, so "
        "no noise can hide it; declare bounds ('columns: {NAME: {bounds: [LOW, HIGH]}}'; for class "
        "weights 'unit_rows'), or leave it out"
    )
    assert private.events == []
    assert private.asked == []


@pytest.mark.parametrize("noise", [0.0, -1.0, 0.01, math.inf, math.nan])
def test_noise_that_hides_nobody_is_refused(noise: float) -> None:
    with pytest.raises(UsageError, match="hides nobody"):
        door(noise)


def test_a_budget_for_so_many_questions_holds_for_so_many() -> None:
    stream = Stream.open(None, insecure_seed=1)
    private = PrivateDoor.within(
        stream, epsilon=0.5, delta=1e-6, questions=3, data="d1", unit="row"
    )
    for name in "abc":
        private.bounded_sum(name, np.ones((3, 1)), 1.0)
    spent = accountant.epsilon(private.events, 1e-6)
    assert 0.49 < spent <= 0.5
    with pytest.raises(BudgetError, match="d is question 4 of 3 planned") as caught:
        private.bounded_sum("d", np.ones((3, 1)), 1.0)
    assert caught.value.exit_code == 5
    assert len(private.events) == 3


def test_class_weights_through_it() -> None:
    """Balanced weights from noised counts: near the true ones, and never turned around."""
    from tests.training.objectives.test_supervised import TARGETS, setup, term

    private = door(0.02)
    weights = term(class_weights="balanced").init(setup(door=private))
    exact = term(class_weights="balanced").init(setup())
    assert weights.numpy() == pytest.approx(exact.numpy(), rel=0.2)
    assert [event.what for event in private.events] == ["supervised.class_counts"]
    for seed in range(20):
        drowned = term(class_weights="balanced").init(setup(door=door(50.0, seed)))
        assert np.isfinite(drowned.numpy()).all()
        assert (drowned > 0).all()
    units = [i // 4 for i in range(len(TARGETS))]
    with pytest.raises(UsageError, match="unit_rows"):
        term(class_weights="balanced").init(setup(units, private))
    term(class_weights="balanced", unit_rows=4).init(setup(units, private))
    assert len(private.events) == 2
