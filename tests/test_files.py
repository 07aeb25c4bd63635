from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay import files
from assay.errors import ArtefactError, LoadError

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(PLAIN)
def test_canonical_json_round_trips(value: Any) -> None:
    data = files.canonical_json(value)
    assert files.parse_json(data, "here") == value
    assert files.canonical_json(files.parse_json(data, "here")) == data


def test_canonical_json_ignores_the_order_of_keys() -> None:
    one, two = {"a": 1, "é": [True]}, {"é": [True], "a": 1}
    assert files.canonical_json(one) == files.canonical_json(two) == '{"a":1,"é":[true]}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]])
def test_canonical_json_has_no_nan(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        files.canonical_json(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("{", "Expecting"),
        ('{"a":1,"a":2}', "the key 'a' stands twice"),
        ('{"b":{"a":1,"a":1}}', "the key 'a' stands twice"),
        ("NaN", "NaN is not a number"),
        ("[-Infinity]", "-Infinity is not a number"),
        ("1e999", "1e999 is not a number"),
        ("1 2", "Extra data"),
        ("[" * 100_000, "not valid JSON"),
        ("9" * 5000, "not valid JSON"),
        (b"\xff\xfe\xfd", "not valid JSON"),
    ],
)
def test_parse_json_is_strict(text: str | bytes, message: str) -> None:
    with pytest.raises(ArtefactError, match=message) as caught:
        files.parse_json(text, "some.json")
    assert str(caught.value).startswith("some.json: ")


def test_read_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"b": [1, 2.5], "a": "é"})
    assert path.read_text(encoding="utf-8") == '{\n  "a": "é",\n  "b": [\n    1,\n    2.5\n  ]\n}\n'
    assert files.read_json(path) == {"a": "é", "b": [1, 2.5]}
    with pytest.raises(ArtefactError, match="cannot read: No such file"):
        files.read_json(tmp_path / "none.json")
    with pytest.raises(ArtefactError, match="cannot read: Is a directory"):
        files.read_json(tmp_path)


def test_digests(tmp_path: Path) -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    (tmp_path / "empty").touch()
    assert files.sha256(b"") == files.file_digest(tmp_path / "empty") == empty


def test_seeds_do_not_depend_on_the_hash_seed() -> None:
    code = "from assay.files import derive_seed; print(derive_seed(7, 'order', 0))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert found == {f"{files.derive_seed(7, 'order', 0)}\n"}


@given(st.lists(st.integers() | st.text(st.characters(exclude_categories=["Cs"]))))
def test_seeds_have_63_bits(parts: list[int | str]) -> None:
    assert 0 <= files.derive_seed(*parts) < 2**63


def test_atomic_replaces_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with files.atomic(path) as stream:
        stream.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_atomic_leaves_nothing_when_the_writer_fails(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail() -> None:
        with files.atomic(path) as stream:
            stream.write(b"half")
            raise KeyError("x")

    with pytest.raises(KeyError):
        fail()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LoadError, match="cannot write: No space left on device"):
        files.write_bytes(path, b"data")
    assert not list(tmp_path.iterdir())


def test_an_unwritable_place(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="cannot write: No such file"):
        files.write_bytes(tmp_path / "none" / "a", b"")
    (tmp_path / "file").touch()
    with pytest.raises(LoadError, match="cannot write: Not a directory"):
        files.write_bytes(tmp_path / "file" / "a", b"")


def test_modes(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "secret", b"x", mode=0o600)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_write_json_refuses_before_it_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(path, {"a": float("nan")})
    assert not path.exists()


def test_sync_folder_of_nothing_is_no_error(tmp_path: Path) -> None:
    files.sync_folder(tmp_path / "none")


def test_finite() -> None:
    assert files.finite(1.5) == 1.5
    assert files.finite(float("nan")) is None
    assert files.finite(float("-inf")) is None
