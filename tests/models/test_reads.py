"""What building a model reads of the data, as a plan and a passport say it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assay import Recipe
from assay.config import build, build_part
from assay.data.config import DataConfig
from assay.models.hub import ModelConfig

DECLARED: dict[str, Any] = {
    "age": {"bounds": [0, 110]},
    "colour": {"categories": ["red", "blue"]},
}
CLASSES = build_part("task", "tabular-classification", "task")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [f"{20 + i},{('red', 'blue')[i % 2]},{('no', 'yes')[i % 3 == 0]}" for i in range(40)]
    (tmp_path / "people.csv").write_text("\n".join(["age,colour,y", *rows]) + "\n")
    return tmp_path


def config(columns: dict[str, Any]) -> DataConfig:
    return build(DataConfig, {"path": "people.csv", "label": "y", "columns": columns}, "data")


def test_a_declared_table_reads_nothing(folder: Path) -> None:
    model, data = ModelConfig(name="mlp"), config(DECLARED)
    assert model.reads(folder, data, CLASSES) == ()
    assert model.reads(folder, dataset=data.load(folder)) == ()


def test_a_table_that_is_not_reads_what_is_not(folder: Path) -> None:
    model = ModelConfig(name="mlp")
    (whole,) = model.reads(folder)
    assert (whole.split, whole.influences, whole.private) == ("train", ("preprocessing",), False)
    assert whole.why == "means, spreads and categories of the columns, before the first stage"
    data = config({"age": DECLARED["age"], "colour": {"kind": "categorical"}})
    for found in (
        model.reads(folder, data, CLASSES),
        model.reads(folder, dataset=data.load(folder)),
    ):
        assert [read.why for read in found] == [
            "means, spreads and categories of colour, before the first stage"
        ]


def test_what_is_no_table_reads_nothing(folder: Path) -> None:
    assert ModelConfig(name="minilm-l6").reads(folder, config({}), CLASSES) == ()


def test_a_plan_has_no_reading_of_declared_columns(folder: Path) -> None:
    raw: dict[str, Any] = {
        "model": {"name": "mlp", "settings": {"hidden": [4]}},
        "stages": [{"finetune": {"epochs": 1}}],
    }
    for columns, expected in (
        (DECLARED, [("weights",)]),
        ({"age": DECLARED["age"]}, [("preprocessing",), ("weights",)]),
    ):
        data = {"path": str(folder / "people.csv"), "label": "y", "columns": columns}
        plan = Recipe(**raw, data=data).plan()
        assert [r.influences for r in plan.stages[0].reads if not r.disclosure] == expected
