"""The digest of a data set: of the content of its used columns, its schema and its splits.

Content is canonical: neither chunking, nor dictionary encoding, nor the width of a string's
offsets, nor the file format changes it. An image counts by the bytes of its file, or by its pixels.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from assay.config import dump
from assay.files import canonical_json, sha256

if TYPE_CHECKING:
    import pyarrow as pa

    from assay.data.schema import Schema

#: rows hashed at once: it bounds memory, and is part of what the digest means
_ROWS = 65_536
#: images hashed at once, likewise
_IMAGES = 1024


def content_digest(table: pa.Table, schema: Schema) -> str:
    """Hex SHA-256 of the columns that `schema` uses, and of the schema."""
    state = hashlib.sha256()
    state.update(canonical_json(dump(schema)))
    state.update(table.num_rows.to_bytes(8, "big"))
    for name, column in schema.columns.items():
        if column.role != "drop":
            state.update(b"\x00" + name.encode() + b"\x00")
            _update(state, table.column(name))
    return state.hexdigest()


def source_digest(table: pa.Table) -> str:
    """Hex SHA-256 of all columns that there are, used or not, in the order of their names."""
    state = hashlib.sha256(table.num_rows.to_bytes(8, "big"))
    for name in sorted(table.column_names):
        state.update(b"\x00" + name.encode() + b"\x00")
        _update(state, table.column(name))
    return state.hexdigest()


def _update(state: hashlib._Hash, column: pa.ChunkedArray) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    from assay.data.columns import floats_of, is_string, names_of, plain
    from assay.data.images import is_encoded, is_pixels, raw_pixels

    if is_pixels(column.type):
        state.update(b"pixels" + canonical_json(list(column.type.shape)))
        for start in range(0, len(column), _IMAGES):
            state.update(raw_pixels(column.slice(start, _ROWS)).tobytes())
        return
    if is_encoded(column.type):
        state.update(b"bytes")
        for start in range(0, len(column), _IMAGES):
            _update_strings(state, column.slice(start, _IMAGES).to_pylist())
        return
    if pa.types.is_integer(plain(column).type):
        state.update(b"int")
    elif is_string(plain(column).type):
        state.update(b"text")
    else:
        state.update(b"float" if not pa.types.is_null(column.type) else b"null")
    for start in range(0, len(column), _ROWS):
        part = plain(column.slice(start, _ROWS))
        if pa.types.is_null(part.type):
            continue
        if is_string(part.type):
            words = pc.fill_null(names_of(part), "").to_pylist()
            valid = part.is_valid().to_pylist()
            pairs = zip(words, valid, strict=True)
            _update_strings(state, [word.encode() if there else None for word, there in pairs])
        elif pa.types.is_integer(part.type):
            state.update(_bits(part.is_valid().to_numpy(zero_copy_only=False)))
            whole = pc.fill_null(part, 0).to_numpy(zero_copy_only=False)
            state.update(whole.astype("<u8" if whole.dtype == np.uint64 else "<i8").tobytes())
        else:
            values = floats_of(part)
            present = ~np.isnan(values)
            state.update(_bits(present))
            # adding zero makes of -0.0 and 0.0 one zero
            state.update((np.where(present, values, 0.0) + 0.0).astype("<f8").tobytes())


def _update_strings(state: hashlib._Hash, values: list[bytes | None]) -> None:
    """Which values there are, their lengths, their bytes."""
    state.update(_bits(np.array([value is not None for value in values], dtype=np.bool_)))
    state.update(np.array([len(value or b"") for value in values], dtype="<i8").tobytes())
    state.update(b"".join(value or b"" for value in values))


def _bits(flags: npt.NDArray[np.bool_]) -> bytes:
    return np.packbits(flags).tobytes()


def dataset_digest(
    content: str, splits: Mapping[str, npt.NDArray[np.int64]], key: bytes | None = None
) -> str:
    """Hex SHA-256 of a content digest and the rows of each split.

    Args:
        content: what `content_digest` gave.
        splits: name -> row positions.
        key: names private data, so that the digest confirms no guess: HMAC-SHA-256 under it.
    """
    parts = {
        name: sha256(np.ascontiguousarray(rows, dtype="<i8").tobytes())
        for name, rows in splits.items()
    }
    message = canonical_json({"content": content, "splits": parts})
    if key is not None:
        return hmac.new(key, message, hashlib.sha256).hexdigest()
    return sha256(message)
