"""Private data are named by a keyed digest: the owner knows them again, nobody can guess."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest
from tests.tiny import write_table

from assay.data.config import DataConfig
from assay.data.dataset import Dataset
from assay.errors import ArtefactError
from assay.privacy import keyfile
from assay.privacy.naming import KEY_FILE, digest_of, name_of, owner_folder, owner_key
from assay.tasks.base import infer


@pytest.fixture
def owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_OWNER", str(tmp_path / "owner"))
    return tmp_path / "owner"


def load(base: Path, path: str = "table.csv", private: bool = True, **more: object) -> Dataset:
    config = DataConfig(
        **{"path": path, "label": "label", "drop": ("patient",), "private": private, **more}
    )
    return config.load(base, infer(config.card(base)))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    write_table(tmp_path / "table.csv")
    return tmp_path


def test_where_the_key_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASSAY_OWNER", str(tmp_path / "a"))
    assert owner_folder() == tmp_path / "a"
    monkeypatch.delenv("ASSAY_OWNER")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "b"))
    assert owner_folder() == tmp_path / "b" / "assay"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "c"))
    assert owner_folder() == tmp_path / "c" / ".local" / "share" / "assay"


def test_the_key_is_made_once_and_is_its_owners_alone(owner: Path) -> None:
    key = owner_key()
    assert len(key) == keyfile.KEY_BYTES
    assert owner_key() == key
    assert (owner / KEY_FILE).stat().st_mode & 0o777 == 0o600
    (owner / KEY_FILE).unlink()
    assert owner_key() != key


@pytest.mark.parametrize("harm", ["others may read it", "cut off", "changed"])
def test_a_key_that_is_no_secret_or_damaged_is_refused(owner: Path, harm: str) -> None:
    owner_key()
    path = owner / KEY_FILE
    raw = path.read_bytes()
    if harm == "others may read it":
        path.chmod(0o644)
    elif harm == "cut off":
        path.write_bytes(raw[:-1])
    else:
        path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(ArtefactError):
        owner_key()


def test_a_name_is_a_keyed_digest_of_the_content(owner: Path, table: Path) -> None:
    found = load(table)
    told = (found.source or found.content).encode()
    assert name_of(found) == hmac.new(owner_key(), b"data:" + told, hashlib.sha256).hexdigest()
    assert told.decode() not in name_of(found)


def test_a_name_is_the_same_however_the_data_are_used(owner: Path, table: Path) -> None:
    """So what is spent on them adds up: whichever columns, splits, names."""
    names = {
        name_of(load(table)),
        name_of(load(table, drop=("patient", "c"))),
        name_of(load(table, drop=(), unit="patient")),
        name_of(load(table, splits={"valid": 0, "test": 0.5})),
    }
    (table / "copy.csv").write_bytes((table / "table.csv").read_bytes())
    names.add(name_of(load(table, "copy.csv")))
    assert len(names) == 1


def test_other_data_and_other_owners_have_other_names(
    owner: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(table / "other.csv", rows=59)
    first = name_of(load(table))
    assert name_of(load(table, "other.csv")) != first
    monkeypatch.setenv("ASSAY_OWNER", str(table / "another"))
    assert name_of(load(table)) != first


def test_a_passports_digest_is_keyed_where_the_data_are_private(owner: Path, table: Path) -> None:
    found = load(table, private=False)
    assert digest_of(found) == found.digest
    private = load(table)
    told = f"splits:{private.digest}".encode()
    assert digest_of(private) == hmac.new(owner_key(), told, hashlib.sha256).hexdigest()
    assert digest_of(private) not in (private.digest, name_of(private))
    # keys decide who is held out: rows of a private split are nobody's to guess either
    assert found.digest != private.digest
