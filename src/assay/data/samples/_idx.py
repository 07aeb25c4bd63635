"""The idx format of MNIST and its kin: checked before a byte of it is believed."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from assay.errors import LoadError

MEND = "remove the folder and fetch it again: assay data fashion-mnist --fetch"
#: magic number -> number of dimensions
_DIMENSIONS = {b"\0\0\x08\x01": 1, b"\0\0\x08\x03": 3}


def read_idx(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """The bytes of a gzipped idx file of unsigned bytes.

    Args:
        path: the file.
        shape: the shape that it must have.

    Raises:
        LoadError: it is missing, damaged, or holds another shape.
    """
    wanted = int(np.prod(shape, dtype=np.int64))
    try:
        with gzip.open(path) as stream:
            head = stream.read(4)
            if _DIMENSIONS.get(head) != len(shape):
                raise _damaged(path, "is no idx file of the right kind")
            found = stream.read(4 * len(shape))
            sizes = tuple(int.from_bytes(found[i : i + 4], "big") for i in range(0, len(found), 4))
            if sizes != shape:
                raise _damaged(path, f"holds {_times(sizes)} values, not {_times(shape)}")
            data = stream.read(wanted + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, f"cannot be read: {error}") from None
    if len(data) != wanted:
        raise _damaged(path, "is cut off" if len(data) < wanted else "has bytes to spare")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _times(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))


def _damaged(path: Path, why: str) -> LoadError:
    return LoadError(f"the file {why}", where=str(path), mend=MEND)
