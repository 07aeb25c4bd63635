"""A tiny table model, a tiny text model, and tiny folders as Hugging Face writes them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import Bench, table_bench, text_bench, write_reviews, write_table, write_tokenizer

SIZES: dict[str, dict[str, int]] = {
    "bert": {
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "max_position_embeddings": 32,
    },
    "distilbert": {
        "dim": 8,
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dim": 12,
        "max_position_embeddings": 32,
    },
    "roberta": {
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "max_position_embeddings": 34,
    },
}


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, reviews and a tokenizer."""
    folder = tmp_path_factory.mktemp("models")
    write_table(folder / "table.csv")
    write_reviews(folder / "reviews.jsonl")
    write_tokenizer(folder / "words")
    return folder


@pytest.fixture(scope="session")
def table(home: Path) -> Bench:
    return table_bench(home)


@pytest.fixture(scope="session")
def text(home: Path) -> Bench:
    return text_bench(home)


def write_huggingface(folder: Path, family: str, headed: bool, shard: str, **more: Any) -> None:
    """A network with weights that are not those of a fresh initialisation, and its tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    if family == "roberta":
        special = ("<s>", "<pad>", "</s>", "<unk>")
    tokens = write_tokenizer(folder, special)
    config = AutoConfig.for_model(family, vocab_size=tokens, **SIZES[family], **more)
    kind = AutoModelForSequenceClassification if headed else AutoModel
    torch.manual_seed(5)
    network = kind.from_config(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    network.save_pretrained(folder, max_shard_size=shard)


@pytest.fixture(scope="session")
def huggingface(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """(family, headed, shard size) -> a folder that no test changes."""
    made: dict[tuple[Any, ...], Path] = {}

    def get(family: str = "bert", headed: bool = False, shard: str = "1GB") -> Path:
        key = (family, headed, shard)
        if key not in made:
            made[key] = tmp_path_factory.mktemp(family)
            write_huggingface(made[key], *key)
        return made[key]

    return get


@pytest.fixture
def changed(huggingface: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """The same, as a copy that a test may change."""

    def copy(*which: Any, **named: Any) -> Path:
        return Path(shutil.copytree(huggingface(*which, **named), tmp_path / "copy"))

    return copy
