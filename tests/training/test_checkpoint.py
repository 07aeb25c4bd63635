"""Checkpoints: whole or not there; a damaged one gives way to the one before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from assay.errors import LoadError
from assay.training.checkpoint import Checkpoint, Checkpoints


def make(value: float) -> Checkpoint:
    return Checkpoint({"w": torch.full((3,), value), "b": torch.zeros(())}, {"step": value})


def test_the_newest_comes_back_and_only_the_last_are_kept(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 10):
        store.save(step, make(float(step)))
    found, complaints = store.latest()
    assert found is not None
    assert complaints == []
    assert found.state == {"step": 10.0}
    assert torch.equal(found.tensors["w"], torch.full((3,), 10.0))
    assert len(list(tmp_path.iterdir())) == 2
    assert all(p.stat().st_mode & 0o077 == 0 for p in tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_one_gives_way_and_says_so(tmp_path: Path, damage: str) -> None:
    store = Checkpoints(tmp_path)
    store.save(1, make(1.0))
    store.save(2, make(2.0))
    newest = max(tmp_path.iterdir())
    data = bytearray(newest.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
    newest.write_bytes(
        b""
        if damage == "empty"
        else bytes(data[: len(data) // 2])
        if damage == "truncate"
        else bytes(data)
    )
    found, complaints = store.latest()
    assert found is not None
    assert found.state == {"step": 1.0}
    assert len(complaints) == 1
    assert newest.name in complaints[0]


def test_nothing_is_left_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Checkpoints(tmp_path)
    store.save(1, make(1.0))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("assay.files.os.fsync", full)
    with pytest.raises(LoadError, match="No space left"):
        store.save(2, make(2.0))
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == 1
    found, _ = store.latest()
    assert found is not None
    assert found.state == {"step": 1.0}


def test_an_empty_or_missing_folder_has_none(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "nothing").latest() == (None, [])
