"""Architectures build what their static facts say."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from assay.config import build_part
from assay.errors import LoadError
from assay.models.architecture import Architecture, skips_initialisation, weights_follow
from assay.models.architectures.transformer import Transformer

BERT: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 8,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "vocab_size": 30,
    "max_position_embeddings": 16,
}
EVERY = [
    ({"mlp": {"inputs": 4, "hidden": [6, 5]}}, 2),
    ({"mlp": {"inputs": 4, "hidden": []}}, 0),
    ({"bert": {"hidden_size": 8, "layers": 3, "heads": 2, "vocab_size": 30}}, 3),
    ({"transformer": {"config": BERT}}, 3),
    ({"transformer": {"config": {**BERT, "model_type": "roberta", "type_vocab_size": 1}}}, 3),
]


def make(written: dict[str, Any]) -> Architecture:
    found = build_part("architecture", written)
    assert isinstance(found, Architecture)
    return found


@pytest.mark.parametrize(("written", "blocks"), EVERY)
def test_static_facts_are_true(written: dict[str, Any], blocks: int) -> None:
    architecture = make(written)
    network = architecture.build()
    assert architecture.parameter_count() == sum(p.numel() for p in network.parameters())
    assert architecture.block_count() == blocks
    if architecture.modality == "text":
        ids = torch.ones(2, 4, dtype=torch.long)
        states = network(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    else:
        states = network(features=torch.ones(2, 4))
    assert states.shape[-1] == architecture.width()


@pytest.mark.parametrize(("written", "blocks"), EVERY)
def test_the_meta_device_holds_them(written: dict[str, Any], blocks: int) -> None:
    with torch.device("meta"):
        network = make(written).build()
    assert {p.device.type for p in network.parameters()} <= {"meta"}


def test_what_is_not_known_is_not_made_up() -> None:
    assert make({"mlp": {}}).parameter_count() is None
    assert Transformer(config={"model_type": "distilbert"}).parameter_count() is None
    assert Transformer(config={"model_type": "bert"}).parameter_count() is None
    with pytest.raises(LoadError, match="names no hidden size"):
        Transformer(config={"model_type": "bert"}).width()


def test_initialisation_is_skipped_only_where_weights_follow() -> None:
    assert not skips_initialisation()
    with weights_follow():
        assert skips_initialisation()
    assert not skips_initialisation()


@pytest.mark.parametrize(
    ("kind", "longest"), [("bert", 16), ("roberta", 14), ("mpnet", 14), ("distilbert", 16)]
)
def test_the_longest_input(kind: str, longest: int) -> None:
    config = {**BERT, "model_type": kind, "pad_token_id": 1}
    assert Transformer(config=config).longest() == longest
