"""Exported folders load in transformers and PEFT and compute the same hidden states."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from assay.config import build
from assay.deploy.huggingface import export_huggingface, export_peft
from assay.errors import UsageError
from assay.models.model import Model
from assay.models.structures.lora import Lora
from assay.models.structures.mask import mask_model
from assay.stages.export import ExportStage

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def data(make_data: Make) -> Any:
    return make_data("text")


@pytest.fixture(scope="module")
def model(make_model: Make, data: Any) -> Model:
    """A BERT with masks and adapters that do something."""
    plain: Model = make_model("text", data)
    name = "backbone.encoder.layer.0.output.dense.weight"
    mask = torch.rand(plain.network.get_parameter(name).shape) > 0.5
    model = mask_model(plain, {name: mask}).with_structure(Lora(rank=3, alpha=12), seed=0)
    with torch.no_grad():
        for key, parameter in model.network.named_parameters():
            if key.endswith("lora_B"):
                parameter.normal_(std=0.1)
    model.network.eval()
    return model


@pytest.fixture(scope="module")
def batch(model: Model, data: Any) -> dict[str, torch.Tensor]:
    arrays = model.preprocessing.encode(data.rows("test")).batch(np.arange(6), pad_to=8)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def states(network: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = network(**batch).last_hidden_state
    return found


def quiet(load: Callable[[], Any]) -> Any:
    """Loaded without the library's notes on the pooler, which our heads do not use."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        return load().eval()
    finally:
        logging.set_verbosity(level)


def test_a_hugging_face_folder(
    model: Model, data: Any, batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    from transformers import AutoModel, AutoTokenizer

    files = export_huggingface(model, tmp_path / "hf")
    assert files == sorted(files)
    assert {"config.json", "model.safetensors", "tokenizer.json", "head.safetensors"} <= set(files)
    trunk = quiet(lambda: AutoModel.from_pretrained(tmp_path / "hf", add_pooling_layer=False))
    want = states(model.network.backbone, batch)
    torch.testing.assert_close(states(trunk, batch), want, atol=1e-5, rtol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hf")
    texts = data.rows("test")["text"].to_pylist()[:6]
    ids = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")["input_ids"]
    assert torch.equal(ids, batch["input_ids"][:, : ids.shape[1]])
    head = load_file(tmp_path / "hf" / "head.safetensors")
    mask = batch["attention_mask"].unsqueeze(-1)
    pooled = (states(trunk, batch) * mask).sum(1) / mask.sum(1)
    with torch.inference_mode():
        logits = model.network(**batch)
    torch.testing.assert_close(
        pooled @ head["weight"].T + head["bias"], logits, atol=1e-5, rtol=1e-5
    )
    about = json.loads((tmp_path / "hf" / "head.json").read_text())
    assert (about["pooling"], about["classes"]) == ("mean", list(model.classes or ()))


# peft asks transformers for a name that it is about to drop
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_a_peft_folder(model: Model, batch: dict[str, torch.Tensor], tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModel

    files = export_peft(model, tmp_path / "peft")
    assert {"adapter_config.json", "adapter_model.safetensors", "base/config.json"} <= set(files)
    base = quiet(
        lambda: AutoModel.from_pretrained(tmp_path / "peft" / "base", add_pooling_layer=False)
    )
    before = states(base, batch)
    adapted = PeftModel.from_pretrained(base, tmp_path / "peft").eval()
    want = states(model.network.backbone, batch)
    torch.testing.assert_close(states(adapted, batch), want, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(before, want, atol=1e-3)
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(states(merged, batch), want, atol=1e-5, rtol=1e-5)


def test_the_stage_writes_beside_the_model(
    model: Model, data: Any, make_context: Make, tmp_path: Path
) -> None:
    context = make_context("text", data, structures=("head", "lora"), folder=tmp_path)
    for name in ("huggingface", "peft"):
        stage = build(ExportStage, name)
        assert stage.run(model, context) is model
        assert (tmp_path / name).is_dir()
        stage.measure(model, context)
    assert context.claims == []
    assert context.used["folder"] == "peft"
    with pytest.raises(UsageError, match="no run to write into"):
        ExportStage(format="peft").run(model, make_context("text", data))


def test_what_cannot_be_written(
    make_model: Make, make_data: Make, tmp_path: Path, data: Any
) -> None:
    table = make_data("table")
    with pytest.raises(UsageError, match="not one of transformers"):
        export_huggingface(make_model("table", table), tmp_path / "hf")
    with pytest.raises(UsageError, match="no adapters"):
        export_peft(make_model("text", data), tmp_path / "peft")
    assert list(tmp_path.iterdir()) == []


def test_plan_refuses_what_cannot_be_written(
    make_context: Make, make_data: Make, data: Any
) -> None:
    from assay.claims import conflicts
    from assay.claims.capabilities import of

    def refused(kind: str, rows: Any, form: str, structures: tuple[str, ...] = ()) -> list[str]:
        plan = make_context(kind, rows, structures=structures).plan
        stage = build(ExportStage, form)
        parts = [("task", of(plan.task, plan)), (f"export: {form}", stage.capabilities(plan))]
        return [refusal.what for refusal in conflicts(parts)]

    assert refused("text", data, "huggingface") == []
    assert refused("text", data, "peft", ("head", "lora")) == []
    assert "there are adapters to write" in refused("text", data, "peft")[0]
    assert "is a transformer" in refused("table", make_data("table"), "huggingface")[0]
    assert refused("table", make_data("table"), "onnx") == []
