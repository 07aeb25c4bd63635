"""From a recipe's `model:` to a Model with a head for the task."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from assay.errors import ArtefactError, LoadError, UsageError
from assay.files import derive_seed, file_digest, read_json, sha256
from assay.models.architecture import Architecture, weights_follow
from assay.models.continuing import anew, continued
from assay.models.hub import EMBEDDED, ModelConfig, embedded_folder, huggingface_architecture
from assay.models.load import load_model
from assay.models.model import Model
from assay.models.structures.head import Head
from assay.models.weights import read_weights

if TYPE_CHECKING:
    from assay.data.dataset import Dataset
    from assay.data.preprocessing import Preprocessing


def load_from_config(
    config: ModelConfig,
    base: Path,
    task: Any,
    dataset: Dataset,
    seed: int,
    *,
    door: Any,
    scratch: bool,
) -> Model:
    """See `ModelConfig.load`."""
    card = config.card(base)
    architecture = config.architecture()
    source: Path | None = None
    if architecture is None:
        source = _source(config, base)
        if (source / "head.json").is_file():
            start = anew if scratch else continued
            return start(load_model(source), task, dataset, seed, door)
        architecture = config.scaled(pretrained_architecture(source))
    preprocessing = _preprocessing(config, base, architecture, dataset, source, door)
    architecture = architecture.fitted(preprocessing)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "network"))
        if source is None or scratch:
            network = architecture.build()
        else:
            with weights_follow():
                network = architecture.build()
            _load_trunk(network, source)
        head = head_of(config, architecture, task.outputs(dataset.classes))
        network = head.apply(network)
    return Model(
        network=network.eval(),
        architecture=architecture,
        structures=(head,),
        task=task,
        preprocessing=preprocessing,
        classes=dataset.classes,
        card=card.model_copy(update={"parameters": sum(p.numel() for p in network.parameters())}),
        source_digest=_digest(source) if source is not None and not scratch else None,
    )


def head_of(config: ModelConfig, architecture: Architecture, outputs: int) -> Head:
    """The head that a recipe's model gets for a task with so many outputs."""
    return Head(
        outputs=outputs,
        width=architecture.width(),
        pooling=config.pooling if architecture.tokens else "none",
        dropout=config.dropout if architecture.modality != "tabular" else 0.0,
    )


def _source(config: ModelConfig, base: Path) -> Path:
    if config.name in EMBEDDED:
        if EMBEDDED[config.name].pickled is not None:
            from assay.models.embedded import converted_folder

            return converted_folder(config.name)
        return embedded_folder(config.name)
    if config.name.startswith("hf:"):
        return _fetch(config.name.removeprefix("hf:"), config.revision)
    folder = config.folder(base)
    if folder is None:
        raise UsageError(f"no model {config.name!r}", where="model", mend="name a folder")
    return folder


def _fetch(name: str, revision: str | None) -> Path:
    """Download a model by name; the only place that uses the network, and only when named."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise LoadError(
            "fetching needs huggingface_hub",
            where=f"model: hf:{name}",
            mend="pip install 'assay[text]'",
        ) from None
    try:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=["*.json", "*.safetensors", "vocab.txt"]
            )
        )
    except Exception as error:
        raise LoadError(
            f"cannot be fetched: {type(error).__name__}",
            where=f"model: hf:{name}",
            mend="check the name and the network, or name a local folder",
        ) from error


def _digest(source: Path) -> str:
    """Digest of the pretrained weights: of the file, or of the digests of its shards."""
    shards = sorted(source.glob("*.safetensors"))
    digests = [file_digest(path) for path in shards]
    return digests[0] if len(digests) == 1 else sha256("\n".join(digests).encode())


def pretrained_architecture(source: Path) -> Architecture:
    """The architecture of a folder of pretrained weights: one of ours that was converted, or what
    `transformers` builds of a configuration.
    """
    from assay.config import build_part
    from assay.models.embedded import ARCHITECTURE

    if (source / ARCHITECTURE).is_file():
        found: Architecture = build_part("architecture", read_json(source / ARCHITECTURE))
        return found
    return huggingface_architecture(source)


def _tokenizer_file(source: Path) -> Path:
    path = source / "tokenizer.json"
    if path.is_file():
        return path
    raise LoadError(
        "the folder holds no tokenizer.json",
        where=f"model: {source}",
        mend="save a fast tokenizer there: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
    )


def _preprocessing(
    config: ModelConfig,
    base: Path,
    architecture: Architecture,
    dataset: Dataset,
    source: Path | None,
    door: Any,
) -> Preprocessing:
    from assay.data import preprocessing

    if architecture.modality == "image":
        resolution = getattr(architecture, "resolution", None)
        return preprocessing.image_preprocessing(
            dataset, config.image_size, None, default=resolution
        )
    if architecture.modality != "text":
        return preprocessing.fit_tabular(dataset, "train", door)
    if source is None:
        named = config.tokenizer
        source = embedded_folder(named) if named in EMBEDDED else base / named
    longest = architecture.longest()
    if longest is not None and config.max_length > longest:
        raise UsageError(
            f"the network reads at most {longest} tokens",
            where="model.max_length",
            mend=f"set it to at most {longest}",
        )
    found = preprocessing.text_preprocessing(
        _tokenizer_file(source), dataset.schema.text_columns(), config.max_length
    )
    known = getattr(architecture, "config", {}).get("vocab_size", found.vocabulary)
    if found.vocabulary > known:
        raise LoadError(
            f"its tokenizer has {found.vocabulary} tokens, its network knows {known}",
            where=f"model: {source}",
            mend="put the tokenizer there that belongs to the network",
        )
    return found


def _load_trunk(network: torch.nn.Module, source: Path) -> None:
    """Load a pretrained trunk; names may carry the prefix under which a headed model held it."""
    tensors: dict[str, torch.Tensor] = {}
    for shard in _shards(source):
        tensors.update(read_weights(shard))
    # an image trunk stands behind its pixels, which have no weights
    network = getattr(network, "net", network)
    expected = network.state_dict()
    prefix = getattr(network, "base_model_prefix", "")
    renamed = {_name(name, prefix, expected): value for name, value in tensors.items()}
    if not set(expected) <= set(renamed) and hasattr(network, "from_pretrained"):
        renamed = _renamed_by_library(network, source)
    missing = sorted(set(expected) - set(renamed))
    wrong = sorted(n for n in set(expected) & set(renamed) if expected[n].shape != renamed[n].shape)
    if missing or wrong:
        raise LoadError(
            f"its weights do not fit its config.json: {(missing or wrong)[0]!r} is "
            + ("missing" if missing else "of another shape"),
            where=f"model: {source}",
            mend="restore the folder",
        )
    network.load_state_dict({n: renamed[n].to(expected[n].dtype) for n in expected})


def _renamed_by_library(network: Any, source: Path) -> dict[str, torch.Tensor]:
    """The weights of a folder under the names that the installed library has for them by now.

    The files were checked before: here only what they are called is left to the library.
    """
    how = {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False}
    try:
        made, said = type(network).from_pretrained(
            source, config=network.config, output_loading_info=True, **how
        )
    except (OSError, RuntimeError, ValueError, KeyError):
        return {}
    lost = set(said["missing_keys"])
    return {n: v for n, v in made.state_dict().items() if n not in lost}


def _shards(source: Path) -> list[Path]:
    """The files that hold the weights.

    Raises:
        LoadError: there is none.
        ArtefactError: the index of the shards is damaged.
    """
    index, whole = source / "model.safetensors.index.json", source / "model.safetensors"
    if index.is_file():
        try:
            names = {str(name) for name in read_json(index)["weight_map"].values()}
        except (KeyError, TypeError, AttributeError) as error:
            raise ArtefactError(
                "names no files of weights", where=str(index), mend="restore the folder"
            ) from error
        return [source / Path(name).name for name in sorted(names)]
    if whole.is_file():
        return [whole]
    raise LoadError(
        "the folder holds no model.safetensors",
        where=f"model: {source}",
        mend="convert its weights to safetensors (pickled weights are never read)",
    )


def _name(name: str, prefix: str, expected: Collection[str]) -> str:
    """What a trunk calls a tensor, given what a checkpoint calls it.

    A headed model held the trunk under a prefix; the first checkpoints of BERT have the names of
    TensorFlow for the parameters of norms.
    """
    bare = name.removeprefix(f"{prefix}.") if prefix else name
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if bare not in expected and bare.endswith(old):
            return bare.removesuffix(old) + new
    return bare
