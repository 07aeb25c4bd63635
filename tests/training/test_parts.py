"""What the bases of parts promise: examples of each part, and checks of a whole step."""

from __future__ import annotations

import pytest

from assay import registry
from assay.config import build_part, dump_part
from assay.training.checking import check_step
from assay.training.parts import StepPart

COLUMNS = ("term", "parameters", "step", "place")
EVERY = [(kind, name) for kind in COLUMNS for name in registry.names(kind)]


def step(**written: object) -> list[StepPart]:
    return [build_part("step", {name: value}) for name, value in written.items()]


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_every_part_has_examples_that_survive_yaml(kind: str, name: str) -> None:
    examples = registry.find(kind, name).examples()  # type: ignore[attr-defined]
    assert examples
    for part in examples:
        assert part.part_name == name
        assert build_part(kind, dump_part(part)) == part


def test_a_complete_step_is_accepted() -> None:
    parts = step(
        adamw=1e-3,
        cosine=0.1,
        clip_norm=1.0,
        clip_value=1.0,
        ema=0.9,
        precision="fp32",
        dropout=0.1,
    )
    assert check_step(parts) == []


def test_a_step_without_an_optimiser_is_refused() -> None:
    (refusal,) = check_step(step(clip_norm=1.0))
    assert refusal.what == "the step has no optimiser"
    assert refusal.mend == "add one, e.g. adamw: 0.001"


@pytest.mark.parametrize(
    ("written", "what"),
    [
        ({"adamw": 0.1, "sgd": 0.1}, "2 optimiser parts in one step: adamw, sgd"),
        ({"sgd": 0.1, "linear": 0, "cosine": 0}, "2 schedule parts in one step: linear, cosine"),
    ],
)
def test_two_parts_for_one_slot_are_refused(written: dict[str, object], what: str) -> None:
    (refusal,) = check_step(step(**written))
    assert refusal.what == what
    assert refusal.where == "step"


def test_a_setting_that_stands_twice_is_refused() -> None:
    found = check_step([*step(sgd=0.1, dropout=0.1, ema=0.9), *step(dropout=0.2, ema=0.8)])
    assert [refusal.what for refusal in found] == [
        "2 weights parts in one step: ema, ema",
        "dropout stands twice in one step",
    ]
