"""Image networks that `transformers` builds: a small vision transformer, or any from its config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from assay.errors import LoadError
from assay.models.architectures._vision import Vision
from assay.registry import register

if TYPE_CHECKING:
    import torch


def image_network(config: dict[str, Any]) -> torch.nn.Module:
    """The image network that `transformers` builds from a configuration.

    Raises:
        LoadError: the library is missing, cannot build it, or it reads no images.
    """
    from assay.models.architectures.transformer import library_network

    network = library_network(config, "vision")
    if network.main_input_name != "pixel_values":
        raise LoadError(
            f"a model of type {config.get('model_type')!r} reads no images",
            where="model",
            mend="name one that does, such as ViT",
        )
    return network  # type: ignore[no-any-return]


@register("architecture", "image-transformer")
class ImageTransformer(Vision):
    """An image network of the `transformers` library (ViT, DeiT, DINOv2, ConvNeXt, ResNet...).

    Attributes:
        config: the library's own configuration (`config.json`), with `model_type`.
    """

    trunk_channels: ClassVar[int | None] = 3
    keyword: ClassVar[str | None] = "pixel_values"
    tokens: ClassVar[bool] = True

    config: dict[str, Any] = Field(default_factory=dict)

    def trunk(self) -> torch.nn.Module:
        """`pixel_values` `[N, 3, H, W]` -> an object with `last_hidden_state`."""
        return image_network(self.config)

    def width(self) -> int:
        """The hidden size, or the last of several."""
        for key in ("hidden_size", "hidden_sizes", "embed_dim"):
            value = self.config.get(key)
            if isinstance(value, int):
                return value
            if isinstance(value, list) and value and isinstance(value[-1], int):
                return value[-1]
        raise LoadError(
            "the configuration names no hidden size", where="model", mend="add hidden_size"
        )

    def block_count(self) -> int | None:
        """Number of layers, where it is named."""
        value = self.config.get("num_hidden_layers")
        return value if isinstance(value, int) else None


@register("architecture", "vit")
class ViT(Vision):
    """A small vision transformer (Dosovitskiy et al. 2020, arXiv 2010.11929) from scratch.

    Attributes:
        patch: side of a patch in pixels.
        hidden_size: H.
        layers: number of blocks.
        heads: number of attention heads.
        intermediate_size: width of the feed-forward layers.
        dropout: rate in attention and after each sub-layer.
    """

    keyword: ClassVar[str | None] = "pixel_values"
    tokens: ClassVar[bool] = True

    patch: int = Field(default=4, ge=1)
    hidden_size: int = Field(default=128, ge=1)
    layers: int = Field(default=4, ge=1)
    heads: int = Field(default=4, ge=1)
    intermediate_size: int = Field(default=256, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    def trunk(self) -> torch.nn.Module:
        """`pixel_values` `[N, C, H, W]` -> an object with `last_hidden_state`."""
        return image_network(
            {
                "model_type": "vit",
                "image_size": list(self.seen()),
                "patch_size": self.patch,
                "num_channels": self.takes(),
                "hidden_size": self.hidden_size,
                "num_hidden_layers": self.layers,
                "num_attention_heads": self.heads,
                "intermediate_size": self.intermediate_size,
                "hidden_dropout_prob": self.dropout,
                "attention_probs_dropout_prob": self.dropout,
            }
        )

    def width(self) -> int:
        """H."""
        return self.hidden_size

    def block_count(self) -> int | None:
        """Number of blocks."""
        return self.layers
