"""Checkpoints of a training stage: the last few, each whole or not there at all."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from assay.errors import AssayError
from assay.files import canonical_json, sha256, write_bytes

_NAME = re.compile(r"^step-(\d{9})-([0-9a-f]{16})\.safetensors$")


@dataclass
class Checkpoint:
    """State of a stage after a step.

    Attributes:
        tensors: all tensors of the state by name.
        state: all else, plain JSON.
    """

    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of one stage in one folder.

    The name of each carries a digest of its content, so a torn or damaged one is never taken for
    whole.

    Args:
        folder: where they lie.
        keep: how many to keep.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def save(self, step: int, checkpoint: Checkpoint) -> None:
        """Write one and remove those beyond the last `keep`.

        Raises:
            LoadError: it cannot be written; the ones before are still there.
        """
        from safetensors.torch import save

        tensors = {k: v.detach().contiguous() for k, v in sorted(checkpoint.tensors.items())}
        data = save(tensors, metadata={"state": canonical_json(checkpoint.state).decode()})
        path = self.folder / f"step-{step:09d}-{sha256(data)[:16]}.safetensors"
        write_bytes(path, data, mode=0o600)
        for old in self._all()[: -self.keep]:
            old.unlink(missing_ok=True)

    def _all(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(p for p in self.folder.iterdir() if _NAME.match(p.name))

    def latest(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest whole checkpoint, and one line for each newer one that is damaged."""
        complaints: list[str] = []
        for path in reversed(self._all()):
            try:
                return self._read(path), complaints
            except (AssayError, ValueError, OSError, KeyError) as error:
                complaints.append(
                    f"checkpoint {path.name} is damaged ({error}); going back to the one before"
                )
                path.unlink(missing_ok=True)
        if complaints:
            complaints.append("there is none before; beginning the stage anew")
        return None, complaints

    def _read(self, path: Path) -> Checkpoint:
        from safetensors import safe_open
        from safetensors.torch import load

        match = _NAME.match(path.name)
        data = path.read_bytes()
        if match is None or sha256(data)[:16] != match.group(2):
            raise ValueError("its content does not match its digest")
        with safe_open(path, framework="pt") as stream:
            state = json.loads(stream.metadata()["state"])
        return Checkpoint(tensors=load(data), state=state)

    def clear(self) -> None:
        """Remove all of them (the stage is done)."""
        for path in self._all():
            path.unlink(missing_ok=True)
