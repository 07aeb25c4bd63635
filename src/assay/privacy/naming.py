"""How data are named in what leaves their owner: by a keyed digest, so that no guess is confirmed.

The key is the owner's: made once on each machine, readable by its user only. Whoever has another
key sees another name, and cannot tell whether two passports speak of the same data.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path
from typing import Any

from assay.privacy import keyfile

#: file of the owner's key, in the folder of the user's own data
KEY_FILE = "owner.key"


def owner_folder() -> Path:
    """Where the owner's key lies: `$ASSAY_OWNER`, or `assay` in the user's data folder."""
    said = os.environ.get("ASSAY_OWNER")
    if said:
        return Path(said)
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "assay"


def owner_key() -> bytes:
    """The key of this machine's user, made on first use.

    Raises:
        ArtefactError: the file is damaged, or others may read it.
        LoadError: it cannot be written.
    """
    path = owner_folder() / KEY_FILE
    if not os.path.lexists(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        keyfile.create(path, os.urandom(keyfile.KEY_BYTES))
    return keyfile.read(path)


def _keyed(purpose: str, digest: str) -> str:
    return hmac.new(owner_key(), f"{purpose}:{digest}".encode(), hashlib.sha256).hexdigest()


def name_of(dataset: Any) -> str:
    """What private events call a data set: the same whichever of its columns are used and however
    it is split.
    """
    return _keyed("data", dataset.source or dataset.content)


def digest_of(dataset: Any) -> str:
    """The digest by which a passport names a data set: keyed where the data are private."""
    plain: str = dataset.digest
    return _keyed("splits", plain) if dataset.card.private else plain
