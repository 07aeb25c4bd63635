"""Any encoder that `transformers` can build from its configuration."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from pydantic import Field

from assay.errors import LoadError
from assay.models.architecture import Architecture, skips_initialisation
from assay.registry import register

if TYPE_CHECKING:
    import torch


@register("architecture", "transformer")
class Transformer(Architecture):
    """An encoder of the `transformers` library.

    Attributes:
        config: the library's own configuration (`config.json`), with `model_type`.
    """

    modality = "text"

    config: dict[str, Any] = Field(default_factory=dict)

    def build(self) -> torch.nn.Module:
        """The encoder without its pooler and without a head."""
        try:
            from transformers import AutoConfig, AutoModel
        except ImportError:
            raise LoadError(
                "this model needs the library transformers",
                where=f"model of type {self.config.get('model_type')}",
                mend="pip install 'assay[text]'",
            ) from None
        settings = dict(self.config)
        kind = settings.pop("model_type", None)
        try:
            config = AutoConfig.for_model(kind, **settings)
        except (ValueError, KeyError, TypeError) as error:
            raise LoadError(
                f"transformers cannot build a model of type {kind!r}: {str(error)[:120]}",
                where="model",
                mend="name a model type that the installed version knows",
            ) from error
        with contextlib.ExitStack() as stack:
            if skips_initialisation():
                from transformers.initialization import no_init_weights

                stack.enter_context(no_init_weights())
            try:
                # the pooler is not used by our heads; unused weights would be decayed and shipped
                network = AutoModel.from_config(config, add_pooling_layer=False)
            except TypeError:
                network = AutoModel.from_config(config)
        return network  # type: ignore[no-any-return]

    def width(self) -> int:
        """The hidden size (`dim` in the configurations of some families)."""
        for key in ("hidden_size", "dim", "d_model"):
            if key in self.config:
                return int(self.config[key])
        raise LoadError(
            "the configuration names no hidden size", where="model", mend="add hidden_size"
        )

    def parameter_count(self) -> int | None:
        """Exact for BERT-like configurations, else None."""
        c = self.config
        if c.get("model_type") not in {"bert", "roberta"}:
            return None
        h, f = c["hidden_size"], c["intermediate_size"]
        tables = c["vocab_size"] + c["max_position_embeddings"] + c.get("type_vocab_size", 2)
        block = 4 * (h * h + h) + 2 * h * f + h + f + 4 * h
        return int(tables * h + 2 * h + c["num_hidden_layers"] * block)

    def block_count(self) -> int | None:
        """Number of layers."""
        for key in ("num_hidden_layers", "n_layers"):
            if key in self.config:
                return int(self.config[key])
        return None


@register("architecture", "bert")
class Bert(Architecture):
    """A small BERT (Devlin et al. 2019, arXiv 1810.04805) from scratch.

    Attributes:
        hidden_size: H.
        layers: number of blocks.
        heads: number of attention heads.
        intermediate_size: width of the feed-forward layers.
        vocab_size: number of tokens (found from the tokenizer).
        max_positions: longest input in tokens.
        dropout: rate in attention and after each sub-layer.
    """

    modality = "text"

    hidden_size: int = Field(default=128, ge=1)
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=2, ge=1)
    intermediate_size: int = Field(default=512, ge=1)
    vocab_size: int = Field(default=30522, ge=1)
    max_positions: int = Field(default=512, ge=2)
    dropout: float = Field(default=0.1, ge=0, lt=1)

    def as_transformer(self) -> Transformer:
        """The same as a configuration of `transformers`."""
        return Transformer(
            config={
                "model_type": "bert",
                "hidden_size": self.hidden_size,
                "num_hidden_layers": self.layers,
                "num_attention_heads": self.heads,
                "intermediate_size": self.intermediate_size,
                "vocab_size": self.vocab_size,
                "max_position_embeddings": self.max_positions,
                "hidden_dropout_prob": self.dropout,
                "attention_probs_dropout_prob": self.dropout,
                "type_vocab_size": 2,
            }
        )

    def build(self) -> torch.nn.Module:
        """See `Transformer.build`."""
        return self.as_transformer().build()

    def width(self) -> int:
        """H."""
        return self.hidden_size

    def parameter_count(self) -> int | None:
        """Exact."""
        return self.as_transformer().parameter_count()

    def block_count(self) -> int | None:
        """Number of blocks."""
        return self.layers
