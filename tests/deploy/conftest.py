"""A tiny BERT on a small table of text, and a tiny network on a table of numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

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

WORDS = [f"{a}{b}" for a in "bcdfgklmnprst" for b in ("a", "e", "i", "o", "u")]


def write_tokenizer(folder: Path) -> None:
    """A WordPiece tokenizer that knows `WORDS`."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    ids = {word: i for i, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer.to_str())


def write_rows(path: Path, kind: str, rows: int) -> None:
    rng = np.random.default_rng(1)
    with path.open("w") as stream:
        for i in range(rows):
            label: Any = ["low", "mid", "high"][i % 3]
            if kind == "text":
                n = int(rng.integers(2, 30))
                row = {"id": f"t{i}", "text": " ".join(rng.choice(WORDS, n)), "y": label}
            else:
                value = 50 + 10 * float(rng.normal())
                a, b = (float(x) for x in rng.normal(size=2))
                row = {"id": f"t{i}", "a": a, "b": b, "y": label if kind == "table" else value}
            stream.write(json.dumps(row) + "\n")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer and data files."""
    folder = tmp_path_factory.mktemp("deploy")
    write_tokenizer(folder / "tokenizer")
    for kind in ("text", "table", "number"):
        write_rows(folder / f"{kind}.jsonl", kind, 60)
    return folder


def task_for(kind: str) -> Any:
    names = {"text": "text-classification", "table": "tabular-classification"}
    return registry.find("task", names.get(kind, "tabular-regression"))()


@pytest.fixture(scope="session")
def make_data(shared: Path) -> Callable[[str], Dataset]:
    """(text, table or number) -> a data set."""

    def make(kind: str) -> Dataset:
        raw: dict[str, Any] = {"path": f"{kind}.jsonl", "label": "y", "id": "id"}
        if kind == "text":
            raw["text"] = "text"
        config = build(DataConfig, {**raw, "splits": {"valid": 0.1, "test": 0.4}})
        return config.load(shared, task_for(kind))

    return make


@pytest.fixture(scope="session")
def make_model(shared: Path) -> Callable[..., Model]:
    """(kind, data set) -> an untrained network for it."""

    def make(kind: str, data: Dataset, seed: int = 0) -> Model:
        config = ModelConfig(name="mlp", settings={"hidden": [8]})
        if kind == "text":
            settings = {"hidden_size": 16, "layers": 2, "heads": 2, "intermediate_size": 24}
            config = ModelConfig(
                name="bert",
                settings={**settings, "max_positions": 40},
                tokenizer="tokenizer",
                max_length=32,
            )
        return load_from_config(
            config, shared, task_for(kind), data, seed, door=LocalDoor(), scratch=False
        )

    return make


@pytest.fixture(scope="session")
def make_context() -> Callable[..., RunContext]:
    """(kind, data set) -> the context of a stage on it."""

    def make(kind: str, data: Dataset, structures: tuple[str, ...] = (), **more: Any) -> RunContext:
        plan = PlanContext(
            model=ModelCard(name="m", modality="text" if kind == "text" else "tabular"),
            data=data.card,
            task=task_for(kind),
            structures=structures,
        )
        return RunContext(dataset=data, plan=plan, **more)

    return make
