"""Any encoder that `transformers` can build from its configuration."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import Field

from assay.errors import LoadError
from assay.models.architecture import Architecture, skips_initialisation
from assay.registry import register

if TYPE_CHECKING:
    import torch

#: settings that say in which form someone ran the network, not what it is. Some of them make the
#: library fetch and run code that the configuration names; none of them reaches it
_HOW_IT_RAN = frozenset(
    {
        "_attn_implementation",
        "attn_implementation",
        "auto_map",
        "dtype",
        "experts_implementation",
        "output_attentions",
        "output_hidden_states",
        "quantization_config",
        "return_dict",
        "torch_dtype",
        "torchscript",
    }
)
#: types whose positions are counted from the padding token on
_AFTER_PADDING = frozenset({"camembert", "mpnet", "roberta", "xlm-roberta"})


@contextlib.contextmanager
def said_in_one_line(model_type: Any) -> Iterator[None]:
    """What the library raises of a configuration that is wrong, as one line.

    Raises:
        LoadError: instead of whatever it raises.
    """
    try:
        yield
    except Exception as error:  # its checks of a configuration raise a bare Exception
        said = " ".join(str(error).split())
        raise LoadError(
            f"transformers cannot build a model of type {model_type!r}: {said[:120]}",
            where="model",
            mend="correct its config.json, or name a type that the installed version knows",
        ) from error


def library_config(config: dict[str, Any]) -> Any:
    """A configuration as the library's own object, without what says how it once ran."""
    from transformers import AutoConfig

    settings = {k: v for k, v in config.items() if k not in _HOW_IT_RAN}
    return AutoConfig.for_model(settings.pop("model_type", None), **settings)


def library_network(config: dict[str, Any], extra: str) -> Any:
    """The network that `transformers` builds of a configuration, without its pooler, in float32.

    Args:
        config: the library's own configuration, with `model_type`.
        extra: the extra of assay that installs the library.

    Raises:
        LoadError: the library is missing, or cannot build such a model.
    """
    kind = config.get("model_type")
    try:
        import torch
        from transformers import AutoModel
    except ImportError:
        raise LoadError(
            "this model needs the library transformers",
            where=f"model of type {kind}",
            mend=f"pip install 'assay[{extra}]'",
        ) from None
    with contextlib.ExitStack() as stack:
        if skips_initialisation():
            from transformers.initialization import no_init_weights

            stack.enter_context(no_init_weights())
        stack.enter_context(said_in_one_line(kind))
        how = {"dtype": torch.float32, "trust_remote_code": False}
        found = library_config(config)
        try:
            # the pooler is not used by our heads; unused weights would be decayed and shipped
            return AutoModel.from_config(found, add_pooling_layer=False, **how)
        except TypeError:
            return AutoModel.from_config(found, **how)


@register("architecture", "transformer")
class Transformer(Architecture):
    """An encoder of the `transformers` library.

    Attributes:
        config: the library's own configuration (`config.json`), with `model_type`.
    """

    modality = "text"
    tokens = True

    config: dict[str, Any] = Field(default_factory=dict)

    def build(self) -> torch.nn.Module:
        """The encoder without its pooler and without a head, in float32.

        Raises:
            LoadError: the library is missing, or cannot build such a model; or it reads no text.
        """
        network = library_network(self.config, "text")
        if network.main_input_name != "input_ids" or network.config.is_encoder_decoder:
            raise LoadError(
                f"a model of type {self.config.get('model_type')!r} is no text encoder",
                where="model",
                mend="name one, such as BERT",
            )
        return network  # type: ignore[no-any-return]

    def width(self) -> int:
        """The hidden size (`dim` in the configurations of some families)."""
        found = self._number("hidden_size", "dim", "d_model", "n_embd")
        if found is None:
            raise LoadError(
                "the configuration names no hidden size", where="model", mend="add hidden_size"
            )
        return found

    def parameter_count(self) -> int | None:
        """Exact for BERT-like configurations, else None."""
        c = self.config
        if c.get("model_type") not in {"bert", "roberta"}:
            return None
        try:
            h, f = c["hidden_size"], c["intermediate_size"]
            tables = c["vocab_size"] + c["max_position_embeddings"] + c.get("type_vocab_size", 2)
            block = 4 * (h * h + h) + 2 * h * f + h + f + 4 * h
            return int(tables * h + 2 * h + c["num_hidden_layers"] * block)
        except (KeyError, TypeError):
            return None  # a damaged configuration is refused where the network is built

    def block_count(self) -> int | None:
        """Number of layers."""
        return self._number("num_hidden_layers", "n_layers", "n_layer")

    def longest(self) -> int | None:
        """Tokens of the longest input, if the configuration bounds it."""
        positions = self._number("max_position_embeddings", "n_positions")
        if positions is None or self.config.get("model_type") not in _AFTER_PADDING:
            return positions
        padding = self._number("pad_token_id")
        return positions - (1 if padding is None else padding) - 1

    def _number(self, *keys: str) -> int | None:
        """The first of these settings that is there and is a number."""
        values = (self.config.get(key) for key in keys)
        return next((value for value in values if type(value) is int), None)


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
    tokens = True

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

    def longest(self) -> int | None:
        """Tokens of the longest input."""
        return self.max_positions
