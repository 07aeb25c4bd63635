"""Tiny data, tiny networks and tiny model folders that several rooms of tests share."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from assay.claims import PlanContext
from assay.claims.records import Origin
from assay.config import dump_part
from assay.data.config import DataConfig
from assay.data.dataset import Dataset
from assay.data.door import LocalDoor
from assay.models.hub import ModelConfig
from assay.models.model import Model
from assay.tasks.base import Task, infer
from assay.training.context import MetricsLog, RunContext

WORDS = ["good", "bad", "fine", "poor", "tasty", "bland", "fresh", "stale", "loved", "hated"]
WORDS += ["the", "a", "was", "very", "it", "food"]


@dataclass
class Bench:
    """A tiny model, its data and its task."""

    dataset: Dataset
    model: Model
    task: Task
    stages: tuple[Any, ...] = field(default=())

    def context(
        self, work: Path | None = None, model: Model | None = None, **more: Any
    ) -> RunContext:
        """What a stage is given; with a work folder it keeps checkpoints and metrics there."""
        structures = (model or self.model).structures
        plan = PlanContext(
            model=self.model.card,
            data=self.dataset.card,
            task=self.task,
            structures=tuple(s.part_name for s in structures),
            stages=self.stages,
        )
        return RunContext(
            dataset=self.dataset,
            plan=plan,
            work=work,
            metrics=MetricsLog(None if work is None else work / "metrics.jsonl"),
            **{"seed": 3, **more},
        )


def write_table(path: Path, rows: int = 60, per_unit: int = 1) -> None:
    """Three numbers, a category, a label that they tell, and `patient` of `per_unit` rows each."""
    rng = np.random.default_rng(0)
    x, colour = rng.normal(size=(rows, 3)), rng.choice(["red", "green"], rows)
    label = np.where(x[:, 0] + (colour == "red") + 0.1 * rng.normal(size=rows) > 0.5, "yes", "no")
    lines = ["a,b,c,colour,label,patient"]
    lines += [
        f"{a:.3f},{b:.3f},{c:.3f},{k},{y},p{i // per_unit}"
        for i, ((a, b, c), k, y) in enumerate(zip(x, colour, label, strict=True))
    ]
    path.write_text("\n".join(lines) + "\n")


def write_reviews(path: Path, rows: int = 48, longest: int = 12) -> None:
    """Texts of 4 to `longest` words, whose last one tells the label."""
    rng = np.random.default_rng(1)
    lines = []
    for i in range(rows):
        good = i % 2 == 0
        words = list(rng.choice(WORDS, rng.integers(3, longest)))
        words.append("good" if good else "bad")
        lines.append(json.dumps({"text": " ".join(words), "label": "great" if good else "other"}))
    path.write_text("\n".join(lines) + "\n")


def write_tokenizer(
    folder: Path, special: Iterable[str] = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
) -> int:
    """`tokenizer.json` that knows `WORDS`; special tokens: padding, unknown, first, last.

    Returns:
        The number of tokens.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    _, unknown, first, last = names = list(special)
    vocabulary = {w: i for i, w in enumerate([*names, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(first, 2), (last, 3)]
    )
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return len(vocabulary)


def bench(data: DataConfig, model: ModelConfig, base: Path, task: Task | None = None) -> Bench:
    """Load data and model; the task is found from the data unless it is given."""
    task = task or infer(data.card(base))
    dataset = data.load(base, task)
    return Bench(dataset, model.load(base, task, dataset, 0, door=LocalDoor()), task)


def table_bench(base: Path, dropout: float = 0.1, **settings: Any) -> Bench:
    """A multilayer perceptron on `table.csv`; `settings` are those of `DataConfig`."""
    data = DataConfig(**{"path": "table.csv", "label": "label", "drop": ("patient",), **settings})
    sizes = {"hidden": [6, 5], "dropout": dropout}
    return bench(data, ModelConfig(name="mlp", settings=sizes), base)


def text_bench(base: Path, dropout: float = 0.1) -> Bench:
    """A two-layer BERT on `reviews.jsonl`, with the tokenizer in `words`."""
    sizes = {"hidden_size": 8, "layers": 2, "heads": 2, "intermediate_size": 12}
    model = ModelConfig(
        name="bert",
        settings={**sizes, "dropout": dropout},
        dropout=dropout,
        tokenizer="words",
        max_length=16,
    )
    return bench(DataConfig(path="reviews.jsonl", label="label", text=("text",)), model, base)


def image_bench(base: Path, train: int = 24) -> Bench:
    """A small convolutional network on a few digits of 8 by 8 pixels."""
    sizes = {"widths": [3, 4], "depth": 1}
    found = bench(DataConfig(name="digit-images"), ModelConfig(name="cnn", settings=sizes), base)
    few = found.dataset.sample("train", train, 1).sample("valid", 8, 1).sample("test", 8, 1)
    # as if there were no other digits: a data set of its own, none that was divided anew
    return Bench(replace(few, origin=None), found.model, found.task)


def origin_of(found: Bench) -> Origin:
    """How a run on these began."""
    return Origin(
        recipe="tiny",
        assay="0",
        task=dump_part(found.task),
        model=found.model.card,
        data=found.dataset.card,
        data_digest=found.dataset.digest,
        data_config={},
    )


def save(found: Bench, folder: Path, model: Model | None = None) -> Model:
    """Save a model (default: the bench's) whose passport says how it began; give it back."""
    saved = model or found.model
    saved = saved.with_passport(saved.passport.append(origin_of(found)))
    return saved.with_passport(saved.save(folder))
