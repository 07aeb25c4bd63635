"""The embedded model is the model it says it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from assay.data.config import DataConfig
from assay.data.door import LocalDoor
from assay.models.hub import EMBEDDED, ModelConfig, embedded_folder
from assay.models.model import Model
from assay.tasks.base import infer

SENTENCES = [
    "The noodles were excellent, and I would order them again.",
    "stale",
    "Écrit à la hâte — 好吃! :-)",
    "",
    "word " * 300,
]


@pytest.fixture(scope="module")
def minilm(home: Path) -> Model:
    data = DataConfig(path="reviews.jsonl", label="label", text=("text",))
    task = infer(data.card(home))
    config = ModelConfig(name="minilm-l6")
    return config.load(home, task, data.load(home, task), 0, door=LocalDoor())


@pytest.fixture(scope="module")
def theirs() -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states and mask, by the library's own model and tokenizer."""
    from transformers import AutoModel, AutoTokenizer

    folder = embedded_folder("minilm-l6")
    tokens = AutoTokenizer.from_pretrained(folder)(
        SENTENCES, padding=True, truncation=True, max_length=128, return_tensors="pt"
    )
    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder).eval()(**tokens).last_hidden_state
    return states, tokens["attention_mask"]


def inputs_of(model: Model) -> dict[str, torch.Tensor]:
    from assay.models.predictions import as_table

    encoded = model.preprocessing.encode(as_table([{"text": text} for text in SENTENCES]))
    found = encoded.batch(np.arange(len(SENTENCES)))
    return {name: torch.from_numpy(value) for name, value in found.items()}


def test_hidden_states_are_those_of_the_library(
    minilm: Model, theirs: tuple[torch.Tensor, torch.Tensor]
) -> None:
    inputs = inputs_of(minilm)
    assert torch.equal(inputs["attention_mask"], theirs[1])
    with torch.inference_mode():
        states = minilm.network.get_submodule("backbone")(**inputs).last_hidden_state
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(states[real], theirs[0][real], rtol=0, atol=2e-6)


def test_pooling_is_the_sentence_encoders(
    minilm: Model, theirs: tuple[torch.Tensor, torch.Tensor]
) -> None:
    # as 1_Pooling/config.json of the package says: the mean over tokens that are not padding
    states, mask = theirs
    lengths = mask.sum(dim=1).tolist()
    expected = torch.stack([s[:n].mean(dim=0) for s, n in zip(states, lengths, strict=True)])
    inputs = inputs_of(minilm)
    pooled: list[torch.Tensor] = []
    minilm.network.get_submodule("pool").register_forward_hook(
        lambda _, __, output: pooled.append(output)
    )
    with torch.inference_mode():
        minilm.network(**inputs)
    torch.testing.assert_close(pooled[0], expected, rtol=0, atol=2e-6)


def test_the_card_counts_its_parameters(minilm: Model) -> None:
    trunk = minilm.network.get_submodule("backbone")
    count = sum(p.numel() for p in trunk.parameters())
    assert count == EMBEDDED["minilm-l6"].card.parameters == minilm.architecture.parameter_count()
    assert minilm.card.parameters == count + 2 * 384 + 2
    assert len(minilm.blocks()) == EMBEDDED["minilm-l6"].card.blocks
