"""Which parameters move."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from assay.claims import DataCard, ModelCard, PlanContext
from assay.config import build_part
from assay.errors import UsageError
from assay.models.model import Model
from assay.training.parameters._names import within
from assay.training.parts import Parameters


def make(architecture: str, settings: dict[str, Any], width: int, pooling: str) -> Model:
    torch.manual_seed(0)
    built = build_part("architecture", {architecture: settings})
    head = build_part("structure", {"head": {"outputs": 2, "width": width, "pooling": pooling}})
    return Model(
        network=head.apply(built.build()),
        architecture=built,
        structures=(head,),
        task=None,
        preprocessing=None,  # type: ignore[arg-type]
        classes=("a", "b"),
        card=ModelCard(name=architecture),
    )


@pytest.fixture(scope="module")
def mlp() -> Model:
    return make("mlp", {"inputs": 4, "hidden": [6, 5, 3]}, 3, "none")


@pytest.fixture(scope="module")
def bert() -> Model:
    settings = {"hidden_size": 8, "layers": 3, "heads": 2, "intermediate_size": 8, "vocab_size": 9}
    return make("bert", settings, 8, "mean")


def part(name: str, value: Any = None) -> Parameters:
    built = build_part("parameters", {name: value})
    assert isinstance(built, Parameters)
    return built


HEAD = ["head.weight", "head.bias"]


def test_full_moves_all_in_order(mlp: Model) -> None:
    assert part("full").select(mlp) == [n for n, _ in mlp.network.named_parameters()]


def test_head(mlp: Model, bert: Model) -> None:
    assert part("head").select(mlp) == HEAD
    assert part("head").select(bert) == HEAD


def test_last_blocks_and_head(mlp: Model, bert: Model) -> None:
    assert part("last", 2).select(mlp) == [
        "backbone.layers.1.0.weight",
        "backbone.layers.1.0.bias",
        "backbone.layers.2.0.weight",
        "backbone.layers.2.0.bias",
        *HEAD,
    ]
    moving = part("last", 1).select(bert)
    assert moving[-2:] == HEAD
    expected = {n for n, _ in bert.network.named_parameters() if ".layer.2." in n}
    assert set(moving) == expected | set(HEAD)
    assert len(expected) == 16


def test_more_blocks_than_there_are_is_refused(mlp: Model) -> None:
    with pytest.raises(UsageError) as caught:
        part("last", 4).select(mlp)
    assert caught.value.line() == (
        "parameters.last.n: the network has 3 blocks, not 4; "
        "ask for at most 3, or use parameters: full"
    )


def test_a_name_that_only_begins_alike_is_not_within() -> None:
    assert within("layers.1.weight", ("layers.1",))
    assert within("layers.1", ("layers.1",))
    assert not within("layers.10.weight", ("layers.1",))
    assert not within("layers.1.weight", ())


def test_bias_norm_moves_biases_norms_and_head(bert: Model) -> None:
    moving = part("bias_norm").select(bert)
    names = [n for n, _ in bert.network.named_parameters()]
    expected = [n for n in names if n.endswith("bias") or "LayerNorm" in n or n in HEAD]
    assert moving == expected
    assert "backbone.embeddings.LayerNorm.weight" in moving
    assert not any("dense.weight" in n for n in moving)


def test_a_network_without_a_head_is_refused(mlp: Model) -> None:
    from dataclasses import replace

    bare = replace(mlp, network=nn.Linear(2, 2))
    for name in ("head", "last", "bias_norm"):
        with pytest.raises(UsageError, match="the network has no head"):
            part(name).select(bare)


def test_lora_adds_adapters_and_moves_only_them_and_the_head(bert: Model) -> None:
    choice = part("lora", {"rank": 2})
    before = {n: p.clone() for n, p in bert.network.named_parameters()}
    prepared = choice.prepare(bert, seed=3)
    assert [s.part_name for s in prepared.structures] == ["head", "lora"]
    moving = choice.select(prepared)
    assert (
        moving
        == [
            f"backbone.encoder.layer.{i}.attention.self.{kind}.lora_{ab}"
            for i in range(3)
            for kind in ("query", "value")
            for ab in "AB"
        ]
        + HEAD
    )
    # the given model is as it was
    assert list(before) == [n for n, _ in bert.network.named_parameters()]
    after = dict(prepared.network.named_parameters())
    assert all(torch.equal(after[n], p) for n, p in before.items())


def test_lora_on_the_last_blocks_without_the_head(bert: Model) -> None:
    choice = part("lora", {"rank": 2, "blocks": 1, "targets": ["query"], "head": False})
    assert choice.select(choice.prepare(bert, seed=3)) == [
        "backbone.encoder.layer.2.attention.self.query.lora_A",
        "backbone.encoder.layer.2.attention.self.query.lora_B",
    ]


def test_lora_prepares_the_same_from_the_same_seed(mlp: Model) -> None:
    choice = part("lora", 2)
    one, same, other = (choice.prepare(mlp, seed=s).network.state_dict() for s in (1, 1, 2))
    assert all(torch.equal(one[n], same[n]) for n in one)
    assert any(not torch.equal(one[n], other[n]) for n in one)


def test_the_same_adapters_are_trained_further(mlp: Model) -> None:
    choice = part("lora", 2)
    prepared = choice.prepare(mlp, seed=1)
    assert choice.prepare(prepared, seed=2) is prepared
    with pytest.raises(UsageError, match="has other adapters already"):
        part("lora", 3).prepare(prepared, seed=1)


def test_structures_that_will_be_added(mlp: Model) -> None:
    context = PlanContext(model=ModelCard(name="m"), data=DataCard(name="d"), task=None)
    assert part("lora").structures(context) == ("lora",)
    assert part("lora").structures(context.model_copy(update={"structures": ("lora",)})) == ()
    assert part("full").structures(context) == ()
    assert part("lora").capabilities(context).needs == {"linear_layers"}
    assert part("full").prepare(mlp, seed=0) is mlp


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (part("full"), "all parameters"),
        (part("head"), "the head"),
        (part("last", 1), "the last block and the head"),
        (part("last", 2), "the last 2 blocks and the head"),
        (part("bias_norm"), "biases, norms and the head"),
        (part("lora", 4), "LoRA adapters of rank 4 and the head"),
        (
            part("lora", {"rank": 4, "blocks": 2, "head": False}),
            "LoRA adapters of rank 4 on the last 2 blocks",
        ),
    ],
)
def test_in_words(choice: Parameters, words: str) -> None:
    assert choice.describe() == words
