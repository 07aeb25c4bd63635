"""A small table, a small network on it, and what a stage is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay import registry
from assay.claims import ModelCard, PlanContext
from assay.config import build
from assay.data.config import DataConfig
from assay.data.dataset import Dataset
from assay.data.door import LocalDoor
from assay.models.hub import ModelConfig
from assay.models.loading import load_from_config
from assay.models.model import Model
from assay.training.context import RunContext


def write_table(path: Path, rows: int, kind: str, seed: int = 0) -> None:
    """Two features that tell the label, a category, an id; `kind` is the label's."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=rows), rng.normal(size=rows)
    score = a - b + 0.5 * rng.normal(size=rows)
    label = {
        "binary": np.where(score > 0.3, "yes", "no"),
        "three": np.select([score < -0.7, score > 0.7], ["low", "high"], "mid"),
        "number": np.round(100 + 10 * score, 3),
    }[kind]
    colour = rng.choice(["red", "green", "blue"], rows)
    lines = ["id,a,b,colour,y"]
    lines += [
        f"r{i},{x:.6f},{z:.6f},{c},{y}"
        for i, (x, z, c, y) in enumerate(zip(a, b, colour, label, strict=True))
    ]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., Dataset]:
    """(kind of label, number of rows) -> a data set."""

    def make(kind: str = "binary", rows: int = 150) -> Dataset:
        write_table(tmp_path / f"{kind}.csv", rows, kind)
        config = build(
            DataConfig,
            {
                "path": f"{kind}.csv",
                "label": "y",
                "id": "id",
                "splits": {"valid": 0.2, "test": 0.4},
            },
        )
        return config.load(tmp_path, _task(kind))

    return make


def _task(kind: str) -> Any:
    name = "tabular-regression" if kind == "number" else "tabular-classification"
    return registry.find("task", name)()


@pytest.fixture
def make_model() -> Callable[..., Model]:
    """(data set) -> an untrained network for it."""

    def make(data: Dataset, seed: int = 0, **settings: Any) -> Model:
        task = _task("number" if data.classes is None else "binary")
        config = ModelConfig(name="mlp", settings={"hidden": [8], **settings})
        return load_from_config(config, Path(), task, data, seed, door=LocalDoor(), scratch=False)

    return make


@pytest.fixture
def make_context() -> Callable[..., RunContext]:
    """(data set) -> the context of a stage on it."""

    def make(data: Dataset, structures: tuple[str, ...] = (), **more: Any) -> RunContext:
        plan = PlanContext(
            model=ModelCard(name="mlp", architecture="mlp"),
            data=data.card,
            task=_task("number" if data.classes is None else "binary"),
            structures=structures,
        )
        return RunContext(dataset=data, plan=plan, **more)

    return make
