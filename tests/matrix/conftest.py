"""Tiny data and tiny networks on which every combination of parts is tried."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.claims import PlanContext
from assay.data.config import DataConfig
from assay.data.dataset import Dataset
from assay.data.door import LocalDoor
from assay.models.hub import ModelConfig
from assay.models.model import Model
from assay.tasks.base import Task, infer
from assay.training.context import MetricsLog, RunContext

_WORDS = ["good", "bad", "fine", "poor", "tasty", "bland", "fresh", "stale", "loved", "hated", "the", "a", "was", "very", "it", "food"]


@dataclass
class Bench:
    """A tiny model and its data."""

    dataset: Dataset
    model: Model
    task: Task

    def context(self, folder: Path | None = None) -> RunContext:
        return RunContext(
            dataset=self.dataset,
            plan=PlanContext(
                model=self.model.card,
                data=self.dataset.card,
                task=self.task,
                structures=tuple(s.part_name for s in self.model.structures),
            ),
            seed=3,
            work=folder,
            metrics=MetricsLog(None if folder is None else folder / "metrics.jsonl"),
        )


def _write_table(path: Path) -> None:
    rng = np.random.default_rng(0)
    x, colour = rng.normal(size=(60, 3)), rng.choice(["red", "green"], 60)
    label = np.where(x[:, 0] + (colour == "red") + 0.1 * rng.normal(size=60) > 0.5, "yes", "no")
    rows = ["a,b,c,colour,label"]
    rows += [
        f"{a:.3f},{b:.3f},{c:.3f},{k},{y}" for (a, b, c), k, y in zip(x, colour, label, strict=True)
    ]
    path.write_text("\n".join(rows) + "\n")


def _write_reviews(path: Path) -> None:
    rng = np.random.default_rng(1)
    lines = []
    for i in range(48):
        good = i % 2 == 0
        words = list(rng.choice(_WORDS, rng.integers(3, 12)))
        words.append("good" if good else "bad")
        lines.append(json.dumps({"text": " ".join(words), "label": "great" if good else "other"}))
    path.write_text("\n".join(lines) + "\n")


def _write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *_WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))


def _bench(data: DataConfig, model: ModelConfig, base: Path) -> Bench:
    task = infer(data.card(base))
    dataset = data.load(base, task)
    loaded = model.load(base, task, dataset, 0, door=LocalDoor())
    return Bench(dataset, loaded, task)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, reviews, a tokenizer, and a saved teacher for each."""
    folder = tmp_path_factory.mktemp("matrix")
    _write_table(folder / "table.csv")
    _write_reviews(folder / "reviews.jsonl")
    _write_tokenizer(folder / "words")
    return folder


@pytest.fixture(scope="session")
def table(home: Path) -> Bench:
    """A multilayer perceptron on a table."""
    data = DataConfig(path="table.csv", label="label")
    model = ModelConfig(name="mlp", settings={"hidden": [6, 5], "dropout": 0.1})
    return _bench(data, model, home)


@pytest.fixture(scope="session")
def text(home: Path) -> Bench:
    """A two-layer BERT on short reviews."""
    data = DataConfig(path="reviews.jsonl", label="label", text=("text",))
    model = ModelConfig(
        name="bert",
        settings={"hidden_size": 8, "layers": 2, "heads": 2, "intermediate_size": 12},
        tokenizer="words",
        max_length=16,
    )
    return _bench(data, model, home)


@pytest.fixture
def in_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in which the parts' examples find their teacher."""
    monkeypatch.chdir(home)
    yield home


def save_teacher(bench: Bench, folder: Path) -> Any:
    """Save a bench's model where the examples look for a teacher."""
    from assay.claims.records import Origin
    from assay.config import dump_part

    origin = Origin(
        recipe="matrix",
        assay="0",
        task=dump_part(bench.task),
        model=bench.model.card,
        data=bench.dataset.card,
        data_digest=bench.dataset.digest,
        data_config={},
    )
    bench.model.with_passport(bench.model.passport.append(origin)).save(folder / "teacher")
