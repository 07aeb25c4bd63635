"""The stage `merge`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from assay import registry
from assay.claims import DataCard, ModelCard, PlanContext, conflicts
from assay.config import build
from assay.errors import UsageError
from assay.models.architectures.mlp import MLP
from assay.models.model import Model
from assay.models.structures.head import Head
from assay.models.structures.lora import Lora
from assay.models.structures.mask import mask_model
from assay.stages.merge import MergeStage
from assay.training.context import RunContext

TASK = registry.find("task", "tabular-classification")()


def plan(*structures: str) -> PlanContext:
    return PlanContext(
        model=ModelCard(name="m"), data=DataCard(name="d"), task=TASK, structures=structures
    )


def context() -> RunContext:
    data: Any = None
    return RunContext(dataset=data, plan=plan())


def make(lora: bool = True, mask: bool = False) -> Model:
    torch.manual_seed(0)
    architecture, head = MLP(hidden=(6, 5), inputs=4), Head(outputs=2, width=5)
    unused: Any = None
    model = Model(
        network=head.apply(architecture.build()).eval(),
        architecture=architecture,
        structures=(head,),
        task=TASK,
        preprocessing=unused,
        classes=("a", "b"),
        card=ModelCard(name="m"),
    )
    if mask:
        names = ("backbone.layers.0.0.weight", "head.weight")
        shapes = {name: model.network.get_parameter(name).shape for name in names}
        model = mask_model(model, {name: torch.rand(shape) > 0.5 for name, shape in shapes.items()})
    if lora:
        model = model.with_structure(Lora(rank=2, targets=("layers.0.0", "layers.1.0")), seed=1)
        with torch.no_grad():
            for name, parameter in model.network.named_parameters():
                if name.endswith("lora_B"):
                    parameter.normal_()
    return model


@pytest.mark.parametrize("mask", [False, True])
def test_the_merged_network_computes_the_same_without_adapters(mask: bool, tmp_path: Any) -> None:
    from assay.models.load import assemble, load_state

    model = make(mask=mask)
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    merged = MergeStage().run(model.with_file("model.onnx", tmp_path), context())
    features = torch.randn(16, 4)
    with torch.inference_mode():
        torch.testing.assert_close(
            merged.network(features=features), model.network(features=features)
        )
    assert [s.part_name for s in merged.structures] == ["head"]
    assert all(type(m) is not nn.Module for m in merged.network.modules())
    assert set(merged.network.state_dict()) == set(make(lora=False).network.state_dict())
    assert merged.extra == {}  # an export of the network before
    assert all(torch.equal(before[n], t) for n, t in model.network.state_dict().items())
    again = assemble(merged.architecture, merged.structures)
    load_state(again, merged.network.state_dict(), "here")


def test_zeros_under_a_mask_are_filled() -> None:
    model = make(mask=True)
    merged = MergeStage().run(model, context())
    name = "backbone.layers.0.0.weight"
    assert (model.network.get_parameter(name) == 0).any()
    assert not (merged.network.get_parameter(name) == 0).any()


def test_effects() -> None:
    effects = MergeStage().effects(plan("head", "mask", "lora"))
    assert effects.structure_removes == ("lora", "mask")
    assert (effects.reads, effects.adds) == ((), ())
    assert effects.does_keep("privacy.epsilon")
    for kind in ("quality.accuracy", "sparsity.zeros", "size.bytes", "latency.p50_ms"):
        assert not effects.does_keep(kind), kind
    assert MergeStage().effects(plan("head", "lora")).structure_removes == ("lora",)


def test_nothing_to_merge_is_refused() -> None:
    stage = build(MergeStage, None)
    (refusal,) = conflicts([("merge", stage.capabilities(plan("head")))])
    assert refusal.what == "merge needs that there are adapters to merge"
    assert "parameters: lora" in refusal.mend
    assert conflicts([("merge", stage.capabilities(plan("head", "lora")))]) == []
    with pytest.raises(UsageError, match="no adapters to merge"):
        stage.run(make(lora=False), context())
