"""The whole state of a job as one checkpoint, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from assay.training.checkpoint import Checkpoint

if TYPE_CHECKING:
    from assay.training.loop import Job


def snapshot(job: Job) -> Checkpoint:
    """Everything that a resumed job needs to go on bit for bit.

    Random numbers are functions of (seed, stage, step), so the step stands for their state.
    """
    tensors: dict[str, torch.Tensor] = {}
    state: dict[str, Any] = {
        "steps_done": job.steps_done,
        "source": job.state,
        "interval": job.interval.state(),
        "epoch": job.epoch.state(),
        "metrics": job.context.metrics.sync(),
        "players": {},
    }
    for name, player in job.players.items():
        held, state["players"][name] = player.state()
        tensors.update({f"{name}/{key}": value for key, value in held.items()})
    if job.valid is not None:
        held, state["valid"] = job.valid.state()
        tensors.update({f"valid/{key}": value for key, value in held.items()})
    return Checkpoint(tensors, state)


def restore(job: Job, checkpoint: Checkpoint) -> None:
    """Put a freshly made job where the checkpoint was taken."""
    state = checkpoint.state
    job.steps_done, job.state = state["steps_done"], state["source"]
    job.interval.restore(state["interval"])
    job.epoch.restore(state["epoch"])
    job.context.metrics.cut(state["metrics"])
    for name, player in job.players.items():
        player.restore(_under(checkpoint.tensors, f"{name}/"), state["players"][name])
    if job.valid is not None:
        best = _under(checkpoint.tensors, "valid/")
        job.valid.restore(best, state["valid"], job.context.door)


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
