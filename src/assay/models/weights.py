"""Weights on disk: safetensors only, never pickle, and refused when damaged."""

from __future__ import annotations

import struct
from pathlib import Path

import torch

from assay.errors import ArtefactError
from assay.files import parse_json

_MAX_HEADER = 100 * 2**20


def check_header(path: Path) -> None:
    """Refuse a safetensors file with duplicate names, a bad header or a wrong length.

    The library itself accepts a header in which one name stands twice: whichever reader comes
    first then decides what the model is.

    Raises:
        ArtefactError: the file is missing, truncated, or its header is not sound.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else -1
            if not 0 < length <= min(_MAX_HEADER, size - 8):
                raise ArtefactError(
                    "truncated or not a safetensors file", where=str(path), mend="restore the file"
                )
            header = parse_json(stream.read(length), str(path))
    except OSError as error:
        raise ArtefactError(
            f"cannot read the weights: {error.strerror}", where=str(path), mend="restore the file"
        ) from error
    try:
        ends = [info["data_offsets"][1] for n, info in header.items() if n != "__metadata__"]
        whole = max(ends, default=0) == size - 8 - length
    except (AttributeError, KeyError, TypeError, IndexError):
        raise ArtefactError(
            "its header names no tensors", where=str(path), mend="restore the file"
        ) from None
    if not whole:
        raise ArtefactError(
            "the weights are truncated or have bytes to spare",
            where=str(path),
            mend="restore the file",
        )


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Load a safetensors file.

    Raises:
        ArtefactError: it is damaged, holds one name twice, or has NaN or infinite weights.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_header(path)
    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise ArtefactError(
            f"the weights cannot be read: {str(error)[:160]}",
            where=str(path),
            mend="restore the file",
        ) from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ArtefactError(
                f"the tensor {name!r} holds NaN or infinite values",
                where=str(path),
                mend="train again with a lower rate or clipping",
            )
    return tensors


def encode_weights(tensors: dict[str, torch.Tensor]) -> bytes:
    """The bytes of a safetensors file; equal tensors give equal bytes."""
    from safetensors.torch import save

    return save({name: tensors[name].detach().contiguous() for name in sorted(tensors)})
