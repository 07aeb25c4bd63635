"""Image models from a recipe's `model:`: built, saved, loaded, exported, adapted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.architectures.test_vision import VIT

from assay.config import build
from assay.data.config import DataConfig
from assay.data.dataset import Dataset
from assay.data.door import LocalDoor
from assay.errors import UsageError
from assay.models.hub import ModelConfig
from assay.models.load import load_model
from assay.models.model import Model
from assay.registry import find
from assay.training.parameters.last import Last
from assay.training.prefix import find_prefix

SMALL: list[dict[str, Any]] = [
    {"name": "cnn", "settings": {"widths": [4], "depth": 1}},
    {"name": "alexnet", "settings": {"base": 2, "hidden": 8}},
    {"name": "resnet18", "settings": {"base": 2}},
    {"name": "vit", "settings": {"hidden_size": 8, "layers": 1, "heads": 2}},
    {"name": "efficientnet-lite", "settings": {"multiplier": 0.25}, "resolution": 32},
]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return build(DataConfig, "digit-images", "data").load(Path(), None).sample("test", 20)


def load(written: dict[str, Any] | str, dataset: Dataset, base: Path = Path()) -> Model:
    task: Any = find("task", "image-classification")()
    config = build(ModelConfig, written, "model")
    return config.load(base, task, dataset, 0, door=LocalDoor())


@pytest.mark.parametrize("written", SMALL, ids=lambda w: str(w["name"]))
def test_saved_and_loaded_it_predicts_the_same(
    written: dict[str, Any], digits: Dataset, tmp_path: Path
) -> None:
    model = load(written, digits)
    rows = digits.rows("test")
    before = model.predict(rows)
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    after = again.predict(rows)
    assert before.probabilities is not None and after.probabilities is not None
    np.testing.assert_array_equal(before.probabilities, after.probabilities)
    assert again.preprocessing.inputs == {"pixels": ("uint8", 4)}
    assert "image-classification" in json.loads((tmp_path / "m/config.json").read_text())["task"]


@pytest.mark.parametrize("written", SMALL, ids=lambda w: str(w["name"]))
def test_exported_it_predicts_the_same(
    written: dict[str, Any], digits: Dataset, tmp_path: Path
) -> None:
    from assay.deploy.onnx_export import export_onnx
    from assay.deploy.runtime import OnnxNetwork

    model = load(written, digits)
    encoded = model.preprocessing.encode(digits.rows("test"))
    two = {k: torch.from_numpy(v) for k, v in encoded.batch(np.arange(2)).items()}
    export_onnx(model.network, two, False, tmp_path / "m.onnx")
    theirs = OnnxNetwork(tmp_path / "m.onnx", {"pixels"}).outputs(encoded)
    np.testing.assert_allclose(theirs, model.outputs(encoded), atol=1e-4)


def test_the_embedded_network_is_scaled_and_cut_where_it_is_frozen(digits: Dataset) -> None:
    model = load({"name": "efficientnet-lite0", "resolution": 32}, digits)
    assert model.card.pretrained and model.source_digest
    assert len(model.blocks()) == 17
    moving = set(Last(n=3).select(model))
    assert all(n.startswith(("backbone.net.blocks.1", "head.")) for n in moving)
    samples = [
        {k: torch.from_numpy(v) for k, v in model.preprocessing.synthetic(n).items()}
        for n in (3, 2)
    ]
    prefix = find_prefix(model.network, moving, samples)
    assert prefix is not None and prefix.cut == "backbone.net.blocks.13"
    scratch: Any = build(ModelConfig, {"name": "efficientnet-lite0", "resolution": 32}, "model")
    other = scratch.load(Path(), model.task, digits, 0, door=LocalDoor(), scratch=True)
    assert other.source_digest is None
    name = "backbone.net.stem.conv.weight"
    ours, theirs = (m.network.state_dict()[name] for m in (model, other))
    assert not torch.equal(ours, theirs)


def test_a_folder_of_hugging_face_that_reads_images(digits: Dataset, tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTModel

    library = ViTModel(ViTConfig(**{k: v for k, v in VIT.items() if k != "model_type"})).eval()
    library.save_pretrained(tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.25], "size": 16})
    )
    model = load({"name": "./vit", "pooling": "cls"}, digits, tmp_path)
    pixels = torch.rand(2, 3, 16, 16)
    mean = torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)
    std = torch.tensor([0.2, 0.2, 0.25]).view(1, 3, 1, 1)
    trunk: Any = model.network.get_submodule("backbone")
    with torch.no_grad():
        expected = library(pixel_values=(pixels - mean) / std).last_hidden_state
        torch.testing.assert_close(trunk(pixels=pixels), expected, atol=1e-5, rtol=1e-4)


def test_a_resolution_is_for_images(digits: Dataset) -> None:
    with pytest.raises(UsageError, match="reads tabular"):
        build(ModelConfig, {"name": "mlp", "resolution": 8}, "model").architecture()


def test_scaled_pixels_are_not_cached(digits: Dataset) -> None:
    model = load(SMALL[0], digits)
    moving = {name for name, _ in model.network.named_parameters()}
    samples = [
        {k: torch.from_numpy(v) for k, v in model.preprocessing.synthetic(n).items()}
        for n in (3, 2)
    ]
    assert find_prefix(model.network, moving, samples) is None
