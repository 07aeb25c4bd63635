"""The file of a private key: whole and its owner's alone, or not there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from assay.errors import ArtefactError, LoadError
from assay.files import sync_folder, write_bytes

#: length of a key
KEY_BYTES = 32
_CHECK_BYTES = 16
_MAGIC = b"assay stream 1\n"


def _check(key: bytes) -> bytes:
    return hashlib.blake2b(_MAGIC + key, digest_size=_CHECK_BYTES).digest()


def create(path: Path, key: bytes) -> None:
    """Write a key where none is yet; one that another process put there meanwhile stays."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LoadError(
            f"cannot write: {error.strerror}", where=str(path), mend="choose another folder"
        ) from error
    made = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        write_bytes(made, _MAGIC + key + _check(key), mode=0o600)
        with contextlib.suppress(FileExistsError):
            os.link(made, path)
    except OSError as error:
        raise LoadError(
            f"cannot write: {error.strerror}", where=str(path), mend="choose another folder"
        ) from error
    finally:
        made.unlink(missing_ok=True)
    sync_folder(path.parent)


def read(path: Path) -> bytes:
    """The key of a file.

    Raises:
        ArtefactError: it is not whole, or not the owner's alone.
    """
    damaged = "another key would draw other noise and spend again: begin a new run"
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(handle, "rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            data = stream.read(1024)
    except OSError as error:
        raise ArtefactError(
            f"cannot read the private key: {error.strerror}", where=str(path), mend=damaged
        ) from error
    if mode & 0o077:
        raise ArtefactError(
            "the private key can be read by others",
            where=str(path),
            mend=f"if nobody has, chmod 600 {path}; else begin a new run",
        )
    key = data[len(_MAGIC) : len(_MAGIC) + KEY_BYTES]
    if data != _MAGIC + key + _check(key) or len(key) != KEY_BYTES:
        raise ArtefactError("the private key is damaged", where=str(path), mend=damaged)
    return key


def erase(path: Path) -> None:
    """Overwrite and remove a key, if there is one, even a damaged one.

    The disk itself may keep copies of what was overwritten (flash, snapshots); encrypt it where
    that matters.

    Raises:
        LoadError: it cannot be removed.
    """
    try:
        if path.is_file() and not path.is_symlink():
            with path.open("r+b") as stream:
                stream.write(bytes(path.stat().st_size))
                stream.flush()
                os.fsync(stream.fileno())
        path.unlink(missing_ok=True)
    except OSError as error:
        raise LoadError(
            f"cannot remove the private key: {error.strerror or error}",
            where=str(path),
            mend="remove it by hand: who reads it can undo the noise",
        ) from error
    if path.parent.is_dir():
        sync_folder(path.parent)
