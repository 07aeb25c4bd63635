"""A model as plain Hugging Face and PEFT folders, for those who go on with other tools."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from assay.errors import UsageError
from assay.files import write_bytes, write_json

if TYPE_CHECKING:
    from assay.models.model import Model

#: the head's weights in an exported folder, and what is done with them
HEAD = "head.safetensors"
HEAD_CONFIG = "head.json"
#: the folder inside a PEFT folder that holds the trunk its adapters belong to
BASE = "base"

_LORA = ("lora_A", "lora_B")
_MASK = "__mask"
#: names of special tokens, by what they are for, in the tokenizers of common families
_SPECIAL = {
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
}


def export_huggingface(model: Model, folder: Path) -> list[str]:
    """Write the trunk, adapters merged, as a folder that `AutoModel` and `AutoTokenizer` load.

    The head goes into `head.safetensors` (`weight` `[K, H]`, `bias` `[K]`), with pooling and
    classes in `head.json`: `transformers` has no class that computes just this.

    Args:
        model: a transformer.
        folder: where to; an older one of that name is replaced at the end.

    Returns:
        Names of the files.

    Raises:
        UsageError: the trunk is not one of `transformers`.
        LoadError: the folder cannot be written.
    """
    from assay.models.structures._lora import merge

    network, _ = merge(model.network)
    trunk = _trunk(network)

    def write(new: Path) -> None:
        _write_trunk(model, trunk, new)
        _write_head(model, network, new)

    return _whole(folder, write)


def export_peft(model: Model, folder: Path) -> list[str]:
    """Write the adapters as a folder that `PeftModel` loads, and in `base/` the trunk they adapt.

    Args:
        model: a transformer with LoRA adapters on its trunk.
        folder: where to; an older one of that name is replaced at the end.

    Returns:
        Names of the files.

    Raises:
        UsageError: the trunk is not one of `transformers`, or has no adapters.
        LoadError: the folder cannot be written.
    """
    from assay.models.structures._lora import adapted, merge

    trunk = _trunk(model.network)
    layers = dict(adapted(trunk))
    if not layers:
        raise UsageError(
            "the trunk has no adapters to write",
            where="export: peft",
            mend="export before merging, after a finetune with 'parameters: lora'",
        )
    tensors, ranks, alphas = {}, {}, {}
    for name, layer in layers.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = layer.lora_A
        tensors[f"base_model.model.{name}.lora_B.weight"] = layer.lora_B
        ranks[name] = layer.lora_A.shape[0]
        alphas[name] = layer.scale * layer.lora_A.shape[0]
    first = next(iter(layers))
    config = {
        "peft_type": "LORA",
        "task_type": "FEATURE_EXTRACTION",
        "base_model_name_or_path": BASE,
        "r": ranks[first],
        "lora_alpha": _whole_number(alphas[first]),
        "rank_pattern": {n: r for n, r in ranks.items() if r != ranks[first]},
        "alpha_pattern": {n: a for n, a in alphas.items() if a != alphas[first]},
        "lora_dropout": layers[first].rate,
        "target_modules": sorted(layers),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }

    def write(new: Path) -> None:
        (new / BASE).mkdir()
        _write_trunk(model, trunk, new / BASE)
        merged, _ = merge(model.network)
        _write_head(model, merged, new)
        _write_tensors(new / "adapter_model.safetensors", tensors)
        write_json(new / "adapter_config.json", config)

    return _whole(folder, write)


def _whole_number(value: float) -> int | float:
    return int(value) if value == int(value) else value


def _trunk(network: torch.nn.Module) -> Any:
    trunk = getattr(network, "backbone", None)
    if trunk is None or not hasattr(getattr(trunk, "config", None), "to_json_string"):
        raise UsageError(
            "the network is not one of transformers",
            where="export",
            mend="export to onnx instead",
        )
    return trunk


def _write_trunk(model: Model, trunk: Any, folder: Path) -> None:
    """Plain weights: no masks, no adapters."""
    state = {
        name: tensor
        for name, tensor in trunk.state_dict().items()
        if not name.endswith(_MASK) and name.rpartition(".")[2] not in _LORA
    }
    _write_tensors(folder / "model.safetensors", state)
    config = json.loads(trunk.config.to_json_string(use_diff=True))
    write_json(folder / "config.json", {**config, "architectures": [type(trunk).__name__]})
    text = getattr(model.preprocessing, "tokenizer", None)
    if text is not None:
        write_bytes(folder / "tokenizer.json", text.encode())
        write_json(folder / "tokenizer_config.json", _tokenizer_config(model, text))


def _tokenizer_config(model: Model, text: str) -> dict[str, Any]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(text)
    special = {
        use: next((n for n in names if tokenizer.token_to_id(n) is not None), None)
        for use, names in _SPECIAL.items()
    }
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model.preprocessing.max_length,  # type: ignore[attr-defined]
        **{use: name for use, name in special.items() if name is not None},
    }


def _write_head(model: Model, network: Any, folder: Path) -> None:
    _write_tensors(folder / HEAD, {"weight": network.head.weight, "bias": network.head.bias})
    write_json(
        folder / HEAD_CONFIG,
        {
            "pooling": network.pool.kind,
            "classes": list(model.classes) if model.classes is not None else None,
            "task": model.task.part_name,
            "text_columns": list(getattr(model.preprocessing, "columns", ())),
        },
    )


def _write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    from safetensors.torch import save

    # the readers of PEFT want to be told which library's tensors these are
    data = save({n: t.detach().clone().contiguous() for n, t in tensors.items()}, {"format": "pt"})
    write_bytes(path, data)


def _whole(folder: Path, write: Callable[[Path], None]) -> list[str]:
    """Write a folder under a temporary name and put it in its place when it is whole."""
    from assay.models.model import make_folder, swap_folders

    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    try:
        make_folder(new)
        write(new)
        names = sorted(p.relative_to(new).as_posix() for p in new.rglob("*") if p.is_file())
        swap_folders(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return names
