"""Adapters: where they go, what they compute, merging, and PEFT as an oracle."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from assay.claims import ModelCard
from assay.config import build_part
from assay.errors import UsageError
from assay.models.load import assemble
from assay.models.model import Model
from assay.models.structures._lora import (
    LoRALinear,
    adapted,
    candidates,
    find_targets,
    merge,
    unmerge,
)
from assay.models.structures.lora import Lora, merged_model
from assay.models.structures.mask import Mask, mask_model

BERT = {"hidden_size": 16, "layers": 2, "heads": 2, "intermediate_size": 24, "vocab_size": 40}


def mlp_model(hidden: tuple[int, ...] = (6, 5), dropout: float = 0.0) -> Model:
    return make("mlp", {"inputs": 4, "hidden": list(hidden), "dropout": dropout}, hidden[-1])


def bert_model() -> Model:
    return make("bert", {**BERT, "dropout": 0.0}, 16, "mean")


def make(name: str, settings: dict[str, Any], width: int, pooling: str = "none") -> Model:
    torch.manual_seed(0)
    architecture = build_part("architecture", {name: settings})
    head = build_part("structure", {"head": {"outputs": 3, "width": width, "pooling": pooling}})
    return Model(
        network=head.apply(architecture.build()).eval(),
        architecture=architecture,
        structures=(head,),
        task=None,
        preprocessing=None,  # type: ignore[arg-type]
        classes=("a", "b", "c"),
        card=ModelCard(name=name),
    )


def with_adapters(model: Model, **settings: Any) -> Model:
    """The model with adapters whose B is not zero."""
    out = model.with_structure(Lora(**{"rank": 2, "alpha": 6, **settings}), seed=1)
    with torch.no_grad():
        for _, layer in adapted(out.network):
            layer.lora_B.normal_(generator=torch.Generator().manual_seed(2))
    return out


def features(n: int = 7) -> torch.Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(3))


def tokens() -> dict[str, torch.Tensor]:
    ids = torch.randint(0, 40, (3, 9), generator=torch.Generator().manual_seed(4))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def test_at_first_nothing_changes() -> None:
    model = mlp_model()
    adapted_model = model.with_structure(Lora(rank=2), seed=1)
    x = features()
    assert torch.equal(adapted_model.network(features=x), model.network(features=x))
    assert all(not layer.lora_B.any() for _, layer in adapted(adapted_model.network))


def test_the_update_is_the_papers() -> None:
    model = with_adapters(mlp_model(hidden=(5,)), rank=2, alpha=6)
    ((name, layer),) = adapted(model.network)
    assert name == "backbone.layers.0.0"
    assert layer.scale == 3.0
    x = features()
    expected = x @ layer.weight.T + layer.bias + 3.0 * (x @ layer.lora_A.T) @ layer.lora_B.T
    torch.testing.assert_close(layer(x), expected)
    assert layer.lora_A.shape == (2, 4)
    assert layer.lora_B.shape == (5, 2)


def test_a_starts_kaiming_uniform_from_its_seed() -> None:
    one, same, other = (
        dict(adapted(mlp_model().with_structure(Lora(rank=64), seed=s).network)) for s in (1, 1, 2)
    )
    for name, layer in one.items():
        bound = layer.in_features**-0.5  # kaiming-uniform with a = sqrt(5)
        assert 0.9 * bound < float(layer.lora_A.detach().abs().max()) <= bound
        assert torch.equal(layer.lora_A, same[name].lora_A)
        assert not torch.equal(layer.lora_A, other[name].lora_A)


def test_applying_leaves_torchs_generator_and_the_weights_alone() -> None:
    network = mlp_model().network
    weights = dict(network.named_parameters())
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    network = Lora().apply(network)
    assert torch.equal(torch.rand(3), expected)
    after = dict(network.named_parameters())
    assert all(after[name] is weight for name, weight in weights.items())


def test_auto_takes_queries_and_values_of_a_transformer_and_all_layers_of_a_trunk() -> None:
    assert find_targets(bert_model().network, "auto", ()) == [
        f"backbone.encoder.layer.{i}.attention.self.{kind}"
        for i in range(2)
        for kind in ("query", "value")
    ]
    assert find_targets(mlp_model().network, "auto", ()) == [
        "backbone.layers.0.0",
        "backbone.layers.1.0",
    ]


@pytest.mark.parametrize(
    ("targets", "within", "expected"),
    [
        (("head",), (), ["head"]),
        ("head", (), ["head"]),
        (("0",), (), ["backbone.layers.0.0", "backbone.layers.1.0"]),
        (("backbone.*",), (), ["backbone.layers.0.0", "backbone.layers.1.0"]),
        (("*",), ("backbone.layers.1",), ["backbone.layers.1.0"]),
        (("backbone.layers.1.0", "head"), (), ["backbone.layers.1.0", "head"]),
    ],
)
def test_targets_are_names_ends_of_names_and_globs(
    targets: Any, within: tuple[str, ...], expected: list[str]
) -> None:
    assert find_targets(mlp_model().network, targets, within) == expected


def test_no_target_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        Lora(targets=("query",)).apply(mlp_model().network)
    assert caught.value.line() == (
        "lora.targets: no linear layer fits 'query'; "
        "choose among: backbone.layers.0.0, backbone.layers.1.0, head"
    )


def test_every_pattern_must_fit_something() -> None:
    with pytest.raises(UsageError, match="no linear layer fits 'qurey'"):
        Lora(targets=("head", "qurey")).apply(mlp_model().network)


def test_a_second_adapter_on_a_layer_is_refused() -> None:
    network = Lora().apply(mlp_model().network)
    with pytest.raises(UsageError, match="has an adapter already; merge it first"):
        Lora(rank=3).apply(network)


def test_layers_whose_weights_others_read_are_no_candidates() -> None:
    """Torch's own attention and encoder read weights past the layer: it would do nothing."""
    network = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 2))
    assert candidates(network) == ["1"]
    assert candidates(nn.MultiheadAttention(8, 2)) == []


def test_it_works_on_the_meta_device_and_after_a_reload() -> None:
    model = with_adapters(mlp_model())
    with torch.device("meta"):
        meta = assemble(model.architecture, model.structures)
    assert {n: p.shape for n, p in meta.named_parameters()} == {
        n: p.shape for n, p in model.network.named_parameters()
    }
    again = assemble(model.architecture, model.structures)
    again.load_state_dict(model.network.state_dict())
    x = features()
    assert torch.equal(again.eval()(features=x), model.network(features=x))


def test_a_layer_that_occurs_twice_gets_one_adapter() -> None:
    shared = nn.Linear(3, 3)
    network: Any = nn.Sequential(shared, nn.ReLU(), nn.Sequential(shared))
    Lora(rank=1).apply(network)
    assert isinstance(network[0], LoRALinear)
    assert network[2][0] is network[0]
    assert len(list(adapted(network))) == 1


def test_a_network_that_is_one_layer_is_replaced() -> None:
    layer = nn.Linear(3, 2)
    assert isinstance(Lora(rank=1).apply(layer), LoRALinear)


def test_dropout_acts_on_the_adapter_alone_and_only_in_training() -> None:
    model = with_adapters(mlp_model(hidden=(5,)), dropout=0.5)
    ((_, layer),) = adapted(model.network)
    x = features()
    assert torch.equal(layer.eval()(x), layer(x))
    torch.manual_seed(0)
    dropped = layer.train()(x)
    assert not torch.equal(dropped, layer.eval()(x))
    with torch.no_grad():
        layer.lora_B.zero_()
    torch.testing.assert_close(layer.train()(x), nn.functional.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("kind", ["mlp", "bert"])
def test_merged_equals_unmerged(kind: str) -> None:
    model = with_adapters(mlp_model() if kind == "mlp" else bert_model())
    inputs = {"features": features()} if kind == "mlp" else tokens()
    before = copy.deepcopy(model.network.state_dict())
    outputs = model.network(**inputs)
    merged, taken = merge(model.network)
    assert not list(adapted(merged))
    assert not any("lora" in name for name in merged.state_dict())
    torch.testing.assert_close(merged(**inputs), outputs, rtol=1e-5, atol=1e-5)
    parted = unmerge(merged, taken)
    assert list(parted.state_dict()) == list(before)
    for name, tensor in parted.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(parted(**inputs), outputs, rtol=1e-5, atol=1e-5)
    # pure: neither touched what it was given
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_merging_drops_the_mask_of_what_was_merged() -> None:
    model = mlp_model()
    half = torch.arange(24).reshape(6, 4) % 2 == 0
    model = mask_model(model, {"backbone.layers.0.0.weight": half})
    model = mask_model(model, {"head.weight": torch.arange(15).reshape(3, 5) % 3 == 0})
    model = with_adapters(model)
    layer = model.network.get_submodule("backbone.layers.0.0")
    assert torch.equal(layer.get_buffer("weight__mask"), half)  # an adapter keeps the mask
    assert set(model.support()) == {"backbone.layers.0.0.weight", "head.weight"}
    merged = merged_model(model)
    assert set(merged.support()) == {"head.weight"}
    assert [s.part_name for s in merged.structures] == ["head", "mask"]
    torch.testing.assert_close(
        merged.network(features=features()), model.network(features=features())
    )
    again = assemble(merged.architecture, merged.structures)
    again.load_state_dict(merged.network.state_dict())  # its structures describe it whole


def test_merged_model_without_adapters_is_the_same_function() -> None:
    model = dataclasses.replace(mlp_model(), structures=(*mlp_model().structures, Mask()))
    Mask().apply(model.network)
    merged = merged_model(model)
    assert set(merged.support()) == set(model.support())
    assert torch.equal(merged.network(features=features()), model.network(features=features()))


def test_it_equals_peft() -> None:
    peft = pytest.importorskip("peft")
    model = with_adapters(bert_model(), rank=2, alpha=6)
    base = bert_model().network  # the same seed: the same weights
    config = peft.LoraConfig(r=2, lora_alpha=6, target_modules=["query", "value"], lora_dropout=0.0)
    theirs = peft.LoraModel(base, config, "default").eval()
    ours = dict(adapted(model.network))
    with torch.no_grad():
        for name, module in theirs.model.named_modules():
            if isinstance(module, peft.tuners.lora.Linear):
                layer = ours.pop(name)
                module.lora_A["default"].weight.copy_(layer.lora_A)
                module.lora_B["default"].weight.copy_(layer.lora_B)
    assert not ours  # the same layers
    torch.testing.assert_close(
        model.network(**tokens()), theirs.model(**tokens()), rtol=1e-5, atol=1e-6
    )
    merged, _ = merge(model.network)
    torch.testing.assert_close(
        merged(**tokens()), theirs.merge_and_unload()(**tokens()), rtol=1e-5, atol=1e-6
    )


def test_gradients_reach_the_adapters() -> None:
    model = with_adapters(mlp_model())
    model.network(features=features()).square().sum().backward()
    for _, layer in adapted(model.network):
        assert layer.lora_A.grad is not None
        assert bool(layer.lora_A.grad.any())
        assert layer.lora_B.grad is not None
        assert bool(layer.lora_B.grad.any())
