"""Clipped sums equal a loop over units for every architecture of the hub, at tiny size."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.clipping import PLAYER, Inputs, books_for, check
from torch import nn

from assay import registry
from assay.config import build_part
from assay.models.architecture import Architecture
from assay.models.headed import Headed
from assay.models.structures.replace_norm import ReplaceNorm
from assay.training.bookkeeping.check import check as held_against_rows
from assay.training.bookkeeping.engine import Clip

ROWS, SIDE, WORDS, LONGEST = 4, 16, 12, 16


def text(kind: str, **more: Any) -> dict[str, Any]:
    config = {
        "model_type": kind,
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "vocab_size": WORDS,
        "max_position_embeddings": LONGEST + 2,
        "pad_token_id": 0,
    }
    return {"transformer": {"config": {**config, **more}}}


def images(kind: str, **more: Any) -> dict[str, Any]:
    config = {
        "model_type": kind,
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "image_size": SIDE,
        "patch_size": 8,
    }
    return {"image-transformer": {"config": {**config, **more}, "resolution": SIDE}}


DISTILBERT = {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 12}
CONVNEXT = {"num_stages": 2, "hidden_sizes": [4, 8], "depths": [1, 1], "patch_size": 4}
RESNET = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic"}
EVERY: dict[str, dict[str, Any]] = {
    "mlp": {"mlp": {"hidden": [6, 5]}},
    "bert small": {
        "bert": {"hidden_size": 8, "layers": 2, "heads": 2, "intermediate_size": 12},
    },
    "bert": text("bert"),
    "distilbert": text("distilbert", **DISTILBERT),
    "roberta": text("roberta", type_vocab_size=1, pad_token_id=1),
    "mpnet": text("mpnet", pad_token_id=1),
    "electra": text("electra", embedding_size=6),
    "albert": text("albert", embedding_size=6, inner_group_num=1),
    "cnn": {"cnn": {"widths": [4, 6], "depth": 1}},
    "cnn of group norms": {"cnn": {"widths": [8], "norm": "group"}},
    "alexnet": {"alexnet": {"base": 4, "hidden": 10}},
    "resnet18": {"resnet18": {"base": 4, "stem": "small", "depths": [1, 1]}},
    "efficientnet-lite": {"efficientnet-lite": {"multiplier": 0.25, "resolution": 32}},
    "vit small": {"vit": {"hidden_size": 8, "layers": 2, "heads": 2, "intermediate_size": 12}},
    "vit": images("vit"),
    "deit": images("deit"),
    "dinov2": images("dinov2"),
    "convnext": images("convnext", **CONVNEXT),
    "resnet": images("resnet", **RESNET),
}
#: what no use is known of: units go one by one (biases of attention, looked up by distance)
ODD = {"mpnet": {"model:backbone.encoder.relative_attention_bias.weight"}}
#: their maps are averaged already
MAPS = ("convnext", "resnet")


def make(name: str) -> tuple[nn.Module, Inputs]:
    """The network with a head, without batch norms, and synthetic rows."""
    torch.manual_seed(0)
    facts = SimpleNamespace(height=SIDE, width=SIDE, channels=3)
    if "mlp" in EVERY[name]:
        facts = SimpleNamespace(width=4)
    if "bert" in EVERY[name]:
        facts = SimpleNamespace(vocabulary=WORDS)
    architecture: Architecture = build_part("architecture", EVERY[name])
    architecture = architecture.fitted(facts)
    pooling: Any = "mean" if architecture.tokens and name not in MAPS else "none"
    network: nn.Module = Headed(architecture.build(), pooling, architecture.width(), 3, 0.0)
    network = ReplaceNorm(groups=2).apply(network)
    inputs: Inputs
    if architecture.modality == "tabular":
        inputs = {"features": torch.randn(ROWS, 4)}
    elif architecture.modality == "image":
        inputs = {"pixels": torch.rand(ROWS, 3, SIDE, SIDE)}
    else:
        ids = torch.randint(2, WORDS, (ROWS, 7))
        mask = torch.ones_like(ids)
        ids[1, 4:], mask[1, 4:] = 0, 0
        inputs = {"input_ids": ids, "attention_mask": mask}
    return network.eval(), inputs


def test_every_architecture_is_here() -> None:
    here = {next(iter(written)) for written in EVERY.values()}
    assert here == set(registry.names("architecture"))


@pytest.mark.parametrize("grouped", [False, pytest.param(True, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", EVERY)
def test_every_architecture(name: str, grouped: bool) -> None:
    network, inputs = make(name)
    odd = held_against_rows(books_for({PLAYER: network}, Clip(1.0)), network, inputs)
    assert odd == ODD.get(name, set())
    check(network, inputs, torch.tensor([0, 1, 1, 0]) if grouped else None, odd=odd)
