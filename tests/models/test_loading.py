"""From a pretrained folder to a Model: the library's own hidden states, or a refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import Bench

from assay.data.door import LocalDoor
from assay.errors import ArtefactError, LoadError, UsageError
from assay.models.hub import ModelConfig
from assay.models.model import Model
from assay.models.weights import encode_weights, read_weights

FAMILIES = ("bert", "distilbert", "roberta")


def load(folder: Path, text: Bench, seed: int = 0, scratch: bool = False, **more: Any) -> Model:
    config = ModelConfig(**{"name": str(folder), "max_length": 16, **more})
    return config.load(Path(), text.task, text.dataset, seed, door=LocalDoor(), scratch=scratch)


def library_states(folder: Path, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Hidden states as the library computes them from the folder."""
    from transformers import AutoModel

    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state
    assert isinstance(states, torch.Tensor)
    return states


def batch_of(model: Model, text: Bench, rows: int = 5) -> dict[str, torch.Tensor]:
    encoded = model.preprocessing.encode(text.dataset.rows("train"))
    return {k: torch.from_numpy(v) for k, v in encoded.batch(np.arange(rows)).items()}


def states_of(model: Model, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        states = model.network.get_submodule("backbone")(**inputs).last_hidden_state
    assert isinstance(states, torch.Tensor)
    return states


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("headed", "shard"), [(False, "1GB"), (True, "1GB"), (True, "2KB")])
def test_hidden_states_are_the_librarys(
    family: str, headed: bool, shard: str, huggingface: Callable[..., Path], text: Bench
) -> None:
    folder = huggingface(family, headed, shard)
    names = {p.name for p in folder.glob("*.safetensors*")}
    assert ("model.safetensors.index.json" in names) == (shard == "2KB")
    model = load(folder, text)
    inputs = batch_of(model, text)
    assert inputs["attention_mask"].min() == 0  # padding is looked at too
    ours, theirs = states_of(model, inputs), library_states(folder, inputs)
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(ours[real], theirs[real], rtol=0, atol=1e-6)


def test_the_head_is_new_and_a_function_of_the_seed(
    huggingface: Callable[..., Path], text: Bench
) -> None:
    folder = huggingface("bert", True)
    one, same, other = (
        load(folder, text, seed).network.get_submodule("head") for seed in (1, 1, 2)
    )
    assert one.get_parameter("weight").shape == (2, 8)
    assert torch.equal(one.get_parameter("weight"), same.get_parameter("weight"))
    assert not torch.equal(one.get_parameter("weight"), other.get_parameter("weight"))
    before = torch.random.get_rng_state()
    load(folder, text)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_model_that_comes_of_it(huggingface: Callable[..., Path], text: Bench) -> None:
    folder = huggingface("bert", True)
    model = load(folder, text, pooling="cls", dropout=0.3)
    (head,) = model.structures
    assert head.model_dump() == {"outputs": 2, "width": 8, "pooling": "cls", "dropout": 0.3}
    assert model.classes == ("great", "other")
    assert model.card.parameters == model.parameter_count()
    assert not model.network.training
    assert not any("pooler" in name for name, _ in model.network.named_parameters())
    assert model.blocks() == [f"backbone.encoder.layer.{i}" for i in (0, 1)]
    assert model.source_digest is not None
    sharded = load(huggingface("bert", True, "2KB"), text)
    assert sharded.source_digest not in (None, model.source_digest)


def test_scratch_takes_the_architecture_and_no_weights(
    changed: Callable[..., Path], text: Bench
) -> None:
    folder = changed("bert")
    pretrained = load(folder, text)
    (folder / "model.safetensors").unlink()
    fresh = load(folder, text, scratch=True)
    assert fresh.source_digest is None
    assert fresh.parameter_count() == pretrained.parameter_count()
    name = "backbone.encoder.layer.0.output.dense.weight"
    assert not torch.equal(
        fresh.network.get_parameter(name), pretrained.network.get_parameter(name)
    )


def test_pickled_weights_are_never_read(changed: Callable[..., Path], text: Bench) -> None:
    folder = changed("bert")
    torch.save(read_weights(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(LoadError, match=r"no model.safetensors; convert .* never read"):
        load(folder, text)


def test_names_that_the_first_checkpoints_have(changed: Callable[..., Path], text: Bench) -> None:
    folder = changed("bert", True)
    expected = load(folder, text)
    path = folder / "model.safetensors"
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    tensors = {}
    for name, value in read_weights(path).items():
        end = ".".join(name.split(".")[-2:])
        tensors[name.removesuffix(end) + old.get(end, end)] = value
    assert any(name.endswith("gamma") for name in tensors)
    path.write_bytes(encode_weights(tensors))
    assert load(folder, text).subject() == expected.subject()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_computed_with_in_float32(
    dtype: torch.dtype, changed: Callable[..., Path], text: Bench
) -> None:
    folder = changed("bert")
    path = folder / "model.safetensors"
    path.write_bytes(encode_weights({n: t.to(dtype) for n, t in read_weights(path).items()}))
    rewrite(folder / "config.json", dtype=str(dtype).removeprefix("torch."))
    model = load(folder, text)
    assert {p.dtype for p in model.network.parameters()} == {torch.float32}
    assert model.outputs(model.preprocessing.encode(text.dataset.rows("test"))).dtype == np.float32


# -- refusals -------------------------------------------------------------------------------------


def rewrite(path: Path, **settings: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def without(tensors: dict[str, torch.Tensor], end: str) -> dict[str, torch.Tensor]:
    return {n: t for n, t in tensors.items() if not n.endswith(end)}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: without(t, "layer.1.output.dense.weight"), "is missing"),
        (lambda t: {n: x[:1] if x.dim() == 2 else x for n, x in t.items()}, "of another shape"),
    ],
)
def test_weights_that_do_not_fit_their_configuration(
    change: Callable[..., Any], says: str, changed: Callable[..., Path], text: Bench
) -> None:
    folder = changed("bert", True)
    path = folder / "model.safetensors"
    path.write_bytes(encode_weights(change(read_weights(path))))
    with pytest.raises(LoadError, match=f"do not fit its config.json: .*{says}"):
        load(folder, text)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:5],
        lambda data: b"",
        lambda data: data + b"x",
        lambda data: data[:8] + b"?" + data[9:],
    ],
)
def test_damaged_weights(
    change: Callable[[bytes], bytes], changed: Callable[..., Path], text: Bench
) -> None:
    folder = changed("bert")
    path = folder / "model.safetensors"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ArtefactError) as caught:
        load(folder, text)
    assert (caught.value.exit_code, caught.value.where) == (7, str(path))


def test_a_shard_that_is_missing_or_an_index_that_is_damaged(
    changed: Callable[..., Path], text: Bench
) -> None:
    folder = changed("bert", True, "2KB")
    index = folder / "model.safetensors.index.json"
    gone = sorted(folder.glob("model-*.safetensors"))[1]
    gone.rename(folder.parent / "elsewhere.safetensors")
    with pytest.raises(ArtefactError, match="cannot read the weights"):
        load(folder, text)
    # nor is a file outside the folder looked at
    rewrite(index, weight_map={"embeddings": "../elsewhere.safetensors"})
    with pytest.raises(ArtefactError, match="cannot read the weights"):
        load(folder, text)
    for content in ("{}", "[]", '{"weight_map": 3}', "{"):
        index.write_text(content)
        with pytest.raises(ArtefactError):
            load(folder, text)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model_type": "no-such-type"}, "cannot build a model of type 'no-such-type'"),
        ({"hidden_size": "wide"}, "cannot build a model of type 'bert'"),
        ({"num_attention_heads": 3}, "cannot build a model of type 'bert'"),
        ({"hidden_act": "nonsense"}, "cannot build a model of type 'bert'"),
        ({"vocab_size": 5}, "tokenizer has 20 tokens, its network knows 5"),
    ],
)
def test_configurations_that_make_no_model(
    settings: dict[str, Any], says: str, changed: Callable[..., Path], text: Bench
) -> None:
    folder = changed("bert")
    rewrite(folder / "config.json", **settings)
    with pytest.raises(LoadError, match=says):
        load(folder, text)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "vit", "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8},
        {"model_type": "t5", "d_model": 8, "num_heads": 2, "d_ff": 8, "vocab_size": 50},
    ],
)
def test_networks_that_do_not_encode_text(
    config: dict[str, Any], changed: Callable[..., Path], text: Bench
) -> None:
    folder = changed("bert")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(LoadError, match="is no text encoder; name one, such as BERT"):
        load(folder, text)


def test_a_configuration_cannot_name_code_to_run(changed: Callable[..., Path], text: Bench) -> None:
    folder = changed("bert")
    expected = load(folder, text).subject()
    (folder / "evil.py").write_text("raise SystemExit('code of a stranger')")
    rewrite(
        folder / "config.json",
        auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"},
        _attn_implementation="someone/kernels",
        attn_implementation="someone/kernels",
        return_dict=False,
        output_attentions=True,
    )
    model = load(folder, text)
    assert model.subject() == expected
    states_of(model, batch_of(model, text))


def test_a_folder_without_a_tokenizer(changed: Callable[..., Path], text: Bench) -> None:
    folder = changed("bert")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(LoadError, match="tokenizer cannot be read"):
        load(folder, text)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(LoadError, match=r"no tokenizer.json; save a fast tokenizer there"):
        load(folder, text)


@pytest.mark.parametrize("family", FAMILIES)
def test_inputs_as_long_as_the_network_reads(
    family: str, huggingface: Callable[..., Path], text: Bench
) -> None:
    folder = huggingface(family)
    with pytest.raises(UsageError, match="reads at most 32 tokens") as caught:
        load(folder, text, max_length=33)
    assert caught.value.where == "model.max_length"
    model = load(folder, text, max_length=32)
    rows = [{"text": "good " * 100}, {"text": ""}]
    assert model.preprocessing.encode(text_table(rows)).lengths().tolist() == [32, 2]
    assert model.predict(rows).labels


def text_table(rows: list[dict[str, str]]) -> Any:
    from assay.models.predictions import as_table

    return as_table(rows)
