"""Weights that a package ships as torch's own file: read as data only, and converted once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from assay.config import build_part, dump_part
from assay.errors import ArtefactError, LoadError
from assay.files import file_digest, write_bytes, write_json
from assay.models.hub import EMBEDDED, embedded_folder

#: the file of a converted folder that tells the architecture
ARCHITECTURE = "architecture.json"
WEIGHTS = "model.safetensors"


def converted_folder(name: str) -> Path:
    """A folder with `architecture.json` and `model.safetensors` of an embedded model.

    It is made once, below the user's cache (`XDG_CACHE_HOME`), under the digest of the file it was
    made from. torch's file is a pickle: it is opened with `weights_only`, which runs no code.

    Raises:
        LoadError: the package is not installed, or the cache cannot be written.
        ArtefactError: the file holds other weights than it should.
    """
    item = EMBEDDED[name]
    source = embedded_folder(name) / str(item.pickled)
    if not source.is_file():
        raise ArtefactError(
            "the package lacks its weights", where=str(source), mend=f"reinstall {item.package}"
        )
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(root) / "assay" / "models" / f"{name}-{file_digest(source)[:16]}"
    # the architecture is written last: a folder that was cut off is made anew
    if not (folder / ARCHITECTURE).is_file():
        _convert(name, source, folder)
    return folder


def _convert(name: str, source: Path, folder: Path) -> None:
    from assay.models.model import make_folder
    from assay.models.weights import encode_weights

    architecture = build_part("architecture", EMBEDDED[name].built)
    tensors = _read(source, architecture)
    try:
        make_folder(folder)
        write_bytes(folder / WEIGHTS, encode_weights(tensors))
        write_json(folder / ARCHITECTURE, dump_part(architecture))
    except LoadError as error:
        raise LoadError(
            f"the converted weights cannot be kept: {error.what}",
            where=str(folder),
            mend="name a folder that can be written in XDG_CACHE_HOME",
        ) from error


def _read(source: Path, architecture: Any) -> dict[str, Any]:
    import torch

    from assay.models.efficientnet import renamed

    mend = "reinstall the package that ships it"
    try:
        raw = torch.load(source, map_location="cpu", weights_only=True)
        named = {renamed(key): value for key, value in raw.items()}
    except Exception as error:  # whatever a damaged or hostile file makes the library raise
        raise ArtefactError(
            f"the weights cannot be read: {type(error).__name__}", where=str(source), mend=mend
        ) from error
    tensors = {key: value for key, value in named.items() if key is not None}
    expected = {k: v.shape for k, v in architecture.trunk().state_dict().items()}
    if {k: v.shape for k, v in tensors.items()} != expected:
        raise ArtefactError("these are weights of another network", where=str(source), mend=mend)
    if not all(bool(v.isfinite().all()) for v in tensors.values()):
        raise ArtefactError("the weights are not finite", where=str(source), mend=mend)
    return tensors
