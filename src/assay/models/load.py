"""Load a model's folder in a new process, anywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from assay import registry
from assay.claims import ModelCard
from assay.claims.passport import Passport
from assay.config import build, build_part
from assay.errors import ArtefactError, AssayError, LoadError
from assay.files import read_json
from assay.models.architecture import Architecture, weights_follow
from assay.models.model import CONFIG, WEIGHTS, Model
from assay.models.structure import Structure
from assay.models.weights import read_weights

_FILES = {WEIGHTS, CONFIG, "preprocessing.json", "tokenizer.json", "claims.jsonl", "head.json"}


def model_folder(path: Path) -> Path:
    """The model's folder: `path` itself, or `path/model` where `path` is a run.

    Raises:
        LoadError: neither is a model.
    """
    for folder in (path, path / "model"):
        if (folder / CONFIG).is_file() and (folder / "head.json").is_file():
            return folder
    raise LoadError(
        "neither a model nor a run that has finished",
        where=str(path),
        mend="name a folder with config.json and head.json, or a run that holds model/",
    )


def load_model(folder: Path | str) -> Model:
    """Load a model from its folder (or from a run's folder).

    The digests of its files are checked against its head; nothing in it is executed or unpickled.

    Raises:
        LoadError: there is no model.
        ArtefactError: a file is damaged, missing, or does not fit the others.
    """
    folder = model_folder(Path(folder))
    passport, _ = Passport.read(folder)
    with _refusing(str(folder / CONFIG)):
        config = read_json(folder / CONFIG)
        architecture: Architecture = build_part("architecture", config["architecture"])
        structures: tuple[Structure, ...] = tuple(
            build_part("structure", s) for s in config["structures"]
        )
        task = build_part("task", config["task"])
        card = build(ModelCard, config["card"])
        classes = tuple(map(str, config["classes"])) if config["classes"] is not None else None
        network = assemble(architecture, structures)
    load_state(network, read_weights(folder / WEIGHTS), str(folder / WEIGHTS))
    outputs = [s.outputs for s in structures if hasattr(s, "outputs")]
    if outputs and outputs[-1] != task.outputs(classes):
        raise ArtefactError(
            f"it names {task.outputs(classes)} outputs, the network has {outputs[-1]}",
            where=str(folder / CONFIG),
            mend="restore the file",
        )
    from assay.data.preprocessing import load_preprocessing

    return Model(
        network=network.eval(),
        architecture=architecture,
        structures=structures,
        task=task,
        preprocessing=load_preprocessing(folder),
        classes=classes,
        card=card,
        passport=passport,
        extra={p.name: p for p in sorted(folder.iterdir()) if p.is_file() and p.name not in _FILES},
        folder=folder,
    )


@contextlib.contextmanager
def _refusing(where: str) -> Iterator[None]:
    """A configuration that is wrong in any way is an artefact that is damaged."""
    try:
        yield
    except LoadError:  # a library or a package is missing here: no fault of the artefact's
        raise
    except AssayError as error:
        raise ArtefactError(error.what, where=where, mend=error.mend) from error
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, MemoryError) as error:
        raise ArtefactError(
            f"not a complete model configuration: {error}", where=where, mend="restore the file"
        ) from error


def assemble(architecture: Architecture, structures: tuple[Structure, ...]) -> torch.nn.Module:
    """The network's shape, its structures applied; the values of its weights are arbitrary."""
    with weights_follow(), torch.random.fork_rng(devices=[]):
        network = architecture.build()
        for structure in structures:
            network = structure.apply(network)
    return network


def load_state(network: torch.nn.Module, tensors: dict[str, torch.Tensor], where: str) -> None:
    """Load a full state, refusing any name or shape that does not fit.

    Raises:
        ArtefactError: the weights are of another network.
    """
    expected = network.state_dict()
    missing = sorted(set(expected) - set(tensors))
    surplus = sorted(set(tensors) - set(expected))
    wrong = sorted(
        name for name in set(expected) & set(tensors) if expected[name].shape != tensors[name].shape
    )
    if missing or surplus or wrong:
        first = (missing or surplus or wrong)[0]
        kind = "missing" if missing else "surplus" if surplus else "of another shape"
        raise ArtefactError(
            f"the weights are of another network: {first!r} is {kind}",
            where=where,
            mend="restore the folder whole",
        )
    network.load_state_dict(tensors)


def known_parts(kind: str) -> list[str]:
    """Names of the registered parts of a kind (for messages)."""
    return registry.names(kind)


def describe(model: Model) -> dict[str, Any]:
    """A few facts for `assay models` and `doctor`."""
    return {
        "card": model.card.model_dump(),
        "parameters": model.parameter_count(),
        "structures": [s.part_name for s in model.structures],
    }
