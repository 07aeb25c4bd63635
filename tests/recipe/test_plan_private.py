"""What a plan says of private training before anything is spent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from assay import Recipe
from assay.recipe.plan import PlanError
from assay.recipe.run import run


def recipe(stages: list[Any], **model: Any) -> Recipe:
    return Recipe(
        name="p",
        model={"name": "cnn", "settings": {"channels": 1, **model}},
        data={"name": "fashion-mnist", "private": True},
        stages=stages,
    )


def private(**step: Any) -> dict[str, Any]:
    return {"finetune": {"batch": 512, "epochs": 2, "step": {"sgd": 0.1, "private": step}}}


def test_the_curve_of_epsilon_is_there_before_anything_is_spent() -> None:
    planned = recipe([private(epsilon=3)], norm="group").plan()
    text = "\n".join(planned.lines())
    assert "noise multiplier" in text
    assert re.search(r"(2\.9\d|3\.00) after [\d,]+ steps", text)
    assert text.count("with noise") == 3
    assert "(charged)" in text
    assert "training losses (disclosure)" in text


def test_no_noise_is_said_plainly() -> None:
    planned = recipe([private(noise_multiplier=0)], norm="group").plan()
    assert "no privacy" in "\n".join(planned.stages[0].notes)


def test_a_batch_norm_is_refused_with_its_path_and_the_way_out() -> None:
    with pytest.raises(PlanError) as refused:
        recipe([private(epsilon=3)]).plan(deep=True)
    assert "module backbone.net.stages" in str(refused.value)
    assert "replace_norm" in str(refused.value)
    # the way out is one
    recipe(["replace_norm", private(epsilon=3)]).plan(deep=True)
    head = private(epsilon=3)
    head["finetune"]["parameters"] = "head"
    recipe([head]).plan(deep=True)


def test_a_run_finds_it_before_it_opens_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PlanError, match="batch norm"):
        run(recipe([private(epsilon=3)]))
    assert not (tmp_path / "runs").exists()


def test_steering_by_private_validation_rows_voids_epsilon() -> None:
    stage = private(epsilon=3)
    stage["finetune"]["step"]["early_stopping"] = {}
    planned = recipe([stage], norm="group").plan()
    assert "privacy.epsilon" not in planned.carries
    (void,) = [v for v in planned.stages[0].voids if v.kind == "privacy.epsilon"]
    assert "early_stopping" in void.why
    assert void.mend
