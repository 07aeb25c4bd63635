"""Schedules against closed forms, torch and transformers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from assay.claims import DataCard, ModelCard, PlanContext
from assay.config import build_part
from assay.errors import UsageError
from assay.training.parts import Schedule

CONTEXT = PlanContext(model=ModelCard(name="m"), data=DataCard(name="d"), task=None)


def make(name: str, **settings: Any) -> Schedule:
    part = build_part("step", {name: settings})
    assert isinstance(part, Schedule)
    return part


def curve(part: Schedule, total: int) -> list[float]:
    return [part.factor(step, total, {}) for step in range(total)]


def of_torch(make_scheduler: Any, total: int) -> list[float]:
    """Rates that a torch scheduler gives to a base rate of 1."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make_scheduler(optimiser)
    rates = []
    for _ in range(total):
        rates.append(float(optimiser.param_groups[0]["lr"]))
        optimiser.step()
        scheduler.step()
    return rates


def test_warm_up_rises_linearly_from_zero() -> None:
    for name in ("constant", "linear", "cosine", "plateau"):
        assert curve(make(name, warmup=4), 12)[:5] == [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(("warmup", "steps"), [(0.25, 3), (0.26, 4), (1, 1), (0, 0), (50, 12)])
def test_warm_up_is_steps_or_a_share(warmup: float, steps: int) -> None:
    factors = curve(make("constant", warmup=warmup), 12)
    assert factors == [step / steps if step < steps else 1.0 for step in range(12)]


def test_part_of_a_step_is_no_warm_up() -> None:
    with pytest.raises(UsageError, match="is a whole number; round it"):
        make("linear", warmup=2.5)


def test_constant() -> None:
    assert curve(make("constant"), 5) == [1.0] * 5


def test_linear_is_the_closed_form() -> None:
    assert curve(make("linear"), 4) == pytest.approx([1.0, 0.75, 0.5, 0.25])
    assert curve(make("linear", floor=0.5), 4) == pytest.approx([1.0, 0.875, 0.75, 0.625])


def test_cosine_is_the_closed_form() -> None:
    half = [(1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]
    assert curve(make("cosine"), 4) == pytest.approx(half)
    assert curve(make("cosine", floor=0.2), 4) == pytest.approx([0.2 + 0.8 * h for h in half])


@pytest.mark.parametrize("name", ["linear", "cosine", "one_cycle"])
def test_beyond_the_end_the_floor_holds(name: str) -> None:
    assert make(name, floor=0.125).factor(1000, 10, {}) == 0.125


@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_linear_and_cosine_equal_transformers(warmup: int) -> None:
    transformers = pytest.importorskip("transformers")
    cases = {
        "linear": transformers.get_linear_schedule_with_warmup,
        "cosine": transformers.get_cosine_schedule_with_warmup,
        "constant": lambda o, w, _: transformers.get_constant_schedule_with_warmup(o, w),
    }
    for name, theirs in cases.items():
        expected = of_torch(lambda o, theirs=theirs: theirs(o, warmup, 30), 30)
        assert curve(make(name, warmup=warmup), 30) == pytest.approx(expected, abs=1e-12)


def test_cosine_with_a_floor_equals_torch() -> None:
    expected = of_torch(
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=30, eta_min=0.1), 30
    )
    assert curve(make("cosine", floor=0.1), 30) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(("warmup", "total"), [(0.3, 50), (0.5, 20), (0.1, 100)])
def test_one_cycle_equals_torch(warmup: float, total: int) -> None:
    expected = of_torch(
        lambda o: torch.optim.lr_scheduler.OneCycleLR(
            o, max_lr=1.0, total_steps=total, pct_start=warmup, cycle_momentum=False
        ),
        total - 1,
    )
    assert curve(make("one_cycle", warmup=warmup), total)[:-1] == pytest.approx(expected, abs=1e-9)


def test_one_cycle_is_the_closed_form() -> None:
    factors = curve(make("one_cycle", warmup=3, start=0.2, floor=0.1), 7)
    rise = [0.2, 0.6, 1.0]
    fall = [0.1 + 0.9 * (1 + math.cos(math.pi * k / 4)) / 2 for k in (1, 2, 3, 4)]
    assert factors == pytest.approx([*rise, *fall])
    assert curve(make("one_cycle", warmup=0), 1) == [1.0]


@pytest.mark.parametrize(("patience", "threshold"), [(0, 0.0), (1, 1e-4), (2, 0.1)])
def test_plateau_equals_torch(patience: int, threshold: float) -> None:
    losses = [1.0, 0.9, 0.9, 0.95, 0.85, 0.85, 0.849, 0.9, 0.7, 0.7, 0.7, 0.7, 0.7, 0.3]
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=0.5, patience=patience, threshold=threshold, min_lr=0.05
    )
    part = make("plateau", gamma=0.5, patience=patience, threshold=threshold, floor=0.05)
    state: dict[str, float] = {}
    for epoch, loss in enumerate(losses):
        theirs.step(loss)
        part.observe(loss, state)
        assert part.factor(epoch, 100, state) == pytest.approx(optimiser.param_groups[0]["lr"])


def test_plateau_lowers_after_its_patience_and_never_for_nothing() -> None:
    part, state = make("plateau", gamma=0.1, patience=1), dict[str, float]()
    assert part.factor(0, 10, state) == 1.0
    seen = []
    for loss in (1.0, math.nan, math.nan, 0.5, 0.6, 0.6):
        part.observe(loss, state)
        seen.append(part.factor(0, 10, state))
    assert seen == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.1, 0.01])
    assert state == {"best": 0.5, "bad": 0.0, "scale": pytest.approx(0.01)}


def test_plateau_carries_on_from_a_saved_state() -> None:
    part, whole, first = make("plateau", patience=1), dict[str, float](), dict[str, float]()
    for loss in (1.0, 1.1, 1.2, 1.3):
        part.observe(loss, whole)
    for loss in (1.0, 1.1):
        part.observe(loss, first)
    second = dict(first)
    for loss in (1.2, 1.3):
        part.observe(loss, second)
    assert second == whole


def test_only_plateau_looks_at_the_validation_split() -> None:
    names = ["constant", "linear", "cosine", "one_cycle", "plateau"]
    assert [n for n in names if make(n).observes] == ["plateau"]
    assert [n for n in names if make(n).capabilities(CONTEXT).needs] == ["plateau"]
    assert make("plateau").capabilities(CONTEXT).needs == {"valid_split"}
    constant = make("constant")
    state: dict[str, float] = {}
    constant.observe(3.0, state)
    assert state == {}
