"""The folder of a data owner: where its ledger is, and the mark that watches over it."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from assay.errors import ArtefactError, LoadError, UsageError
from assay.files import read_json, sync_folder, write_json

FILE = "site.json"
LEDGER = "ledger.sqlite"
_MAKE = "make one: assay site init FOLDER --epsilon E --delta D"


@dataclass(frozen=True)
class Site:
    """Where a ledger is kept.

    Attributes:
        folder: holds `site.json`, `mark.json` and, with SQLite, `ledger.sqlite`; None for a
            database named by its URL alone, whose restored copies nothing would show.
        place: the file, or the URL.
    """

    folder: Path | None
    place: Path | str

    @classmethod
    def read(cls, place: str | Path) -> Self:
        """The site of a folder, or of a URL.

        Raises:
            LoadError: there is none.
            ArtefactError: its file is damaged.
        """
        if "://" in str(place):
            return cls(None, str(place))
        folder = Path(place)
        if not folder.is_dir():
            raise LoadError("no such folder", where=str(folder), mend=_MAKE)
        if not (folder / FILE).exists():
            raise LoadError(f"no site: there is no {FILE}", where=str(folder), mend=_MAKE)
        value = read_json(folder / FILE)
        if not isinstance(value, dict) or value.get("version") != 1 or "ledger" not in value:
            raise ArtefactError(
                "not the file of a site", where=str(folder / FILE), mend="restore the file"
            )
        named = str(value["ledger"])
        return cls(folder, named if "://" in named else folder / named)

    @classmethod
    @contextlib.contextmanager
    def making(cls, place: str | Path, url: str | None = None) -> Iterator[Self]:
        """Build a site that appears whole at the end of the block, or not at all.

        Raises:
            LoadError: the folder is in use or cannot be written.
            UsageError: the URL holds a password.
        """
        if "://" in str(place):
            yield cls(None, str(place))
            return
        if url is not None and _has_password(url):
            raise UsageError(
                "the URL holds a password, which would be written into a file",
                where="--url",
                mend="leave it out and put it into ~/.pgpass, or into the variable PGPASSWORD",
            )
        folder = Path(place)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise LoadError("there is something already", where=str(folder), mend="name a new one")
        new = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.new")
        try:
            new.mkdir(mode=0o700)
            write_json(new / FILE, {"version": 1, "ledger": url or LEDGER})
            yield cls(new, url or new / LEDGER)
            sync_folder(new)
            new.replace(folder)
            sync_folder(folder.parent)
        except OSError as error:
            raise LoadError(
                f"cannot write: {error.strerror or error}",
                where=str(folder),
                mend="free some space, or choose another folder",
            ) from error
        finally:
            if new.exists():
                shutil.rmtree(new, ignore_errors=True)


def _has_password(url: str) -> bool:
    from urllib.parse import parse_qs, urlsplit

    parts = urlsplit(url)
    return parts.password is not None or "password" in parse_qs(parts.query)
