"""Writing so that nothing partial ever looks whole, and naming content by its digest."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from assay.errors import ArtefactError, LoadError


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, no spaces, UTF-8 and no NaN: equal values give equal bytes.

    >>> canonical_json({"b": 1, "a": [1.5, None]})
    b'{"a":[1.5,null],"b":1}'
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def sha256(data: bytes) -> str:
    """Hex SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def derive_seed(*parts: str | int) -> int:
    """A 63-bit seed from names and numbers; the same in every process, whatever its hash seed.

    >>> derive_seed(7, "order", 0) == derive_seed(7, "order", 0) != derive_seed(7, "order", 1)
    True
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut (no-op where folders cannot be opened)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def atomic(path: Path, mode: int | None = None) -> Iterator[IO[bytes]]:
    """Open a temporary sibling of `path` for writing; on success fsync it and rename it to `path`.

    On any failure the sibling is removed and `path` is what it was.

    Args:
        path: the file to write or replace.
        mode: permission bits of the new file (default: the process's umask decides).

    Raises:
        LoadError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as stream:
            if mode is not None:
                os.fchmod(stream.fileno(), mode)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise LoadError(
            f"cannot write: {error.strerror or error}",
            where=str(path),
            mend="free some space or choose another folder with --out",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes, mode: int | None = None) -> None:
    """Write a whole file atomically."""
    with atomic(path, mode) as stream:
        stream.write(data)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON (sorted keys, indented, no NaN) atomically."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, text.encode() + b"\n")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"the key {key!r} stands twice")
        seen[key] = value
    return seen


def parse_json(data: bytes | str, where: str) -> Any:
    """Parse JSON, refusing duplicate keys, NaN and numbers past a float's range.

    Raises:
        ArtefactError: the text is not such JSON.
    """

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is not a number")

    def number(text: str) -> float:
        value = float(text)
        return value if math.isfinite(value) else refuse(text)

    try:
        return json.loads(
            data, object_pairs_hook=_no_duplicates, parse_constant=refuse, parse_float=number
        )
    except (ValueError, RecursionError) as error:
        raise ArtefactError(
            f"not valid JSON: {error}", where=where, mend="restore the file from its source"
        ) from error


def read_json(path: Path) -> Any:
    """Read a JSON file strictly.

    Raises:
        ArtefactError: the file is missing or not valid JSON.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtefactError(
            f"cannot read: {error.strerror}", where=str(path), mend="restore the file"
        ) from error
    return parse_json(data, str(path))


def finite(value: float) -> float | None:
    """`value`, or None where it is NaN or infinite (JSON has neither)."""
    return value if math.isfinite(value) else None
