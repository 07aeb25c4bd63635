"""Runs that are small, killed and fed with rubbish."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PROGRAM = Path(__file__).with_name("instants.py")


@dataclass
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


def write_table(path: Path, rows: int = 80) -> None:
    """A table of three numbers, a colour and a label that depends on them."""
    draw = np.random.default_rng(0)
    x, colour = draw.normal(size=(rows, 3)), draw.choice(["red", "green"], rows)
    label = np.where(x[:, 0] + (colour == "red") + 0.1 * draw.normal(size=rows) > 0.5, "yes", "no")
    lines = [
        f"{a:.3f},{b:.3f},{c:.3f},{k},{y}" for (a, b, c), k, y in zip(x, colour, label, strict=True)
    ]
    path.write_text("\n".join(["a,b,c,colour,label", *lines]) + "\n")


def start(*arguments: object, cwd: Path, seed: int = 0) -> subprocess.Popen[str]:
    """Start `instants.py` in a process of its own, with that PYTHONHASHSEED."""
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def program(*arguments: object, cwd: Path, seed: int = 0) -> Said:
    """Run `instants.py` to its end."""
    with start(*arguments, cwd=cwd, seed=seed) as process:
        out, err = process.communicate()
    return Said(process.returncode, out, err)


@pytest.fixture
def assay(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A command in this process; its settings of the environment are undone."""
    from assay.cli import invoke
    from assay.recipe import command

    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(command, "_running", None)

    def call(*arguments: object) -> Said:
        capfd.readouterr()
        code = invoke([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Said(code, out, err)

    return call


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else None
        for p in sorted(folder.rglob("*"))
    }


def claims(run: Path) -> Any:
    """The claims of a run but its timings."""
    found = json.loads((run / "claims.json").read_text())
    found["claims"] = [c for c in found["claims"] if not c["kind"].startswith("latency.")]
    return found


def outcome(run: Path) -> dict[str, Any]:
    """All of a finished run that must not depend on when, where and how often it was stopped."""
    same = {n: d for n, d in tree(run / "model").items() if n not in ("claims.jsonl", "head.json")}
    evidence = {n: json.loads(d) for n, d in tree(run).items() if d and n.startswith("evidence/")}
    for found in evidence.values():
        found.pop("latency", None)
    names = sorted(n for n in tree(run) if n != "checkpoints")
    return {
        **same,
        **evidence,
        "metrics": (run / "metrics.jsonl").read_bytes(),
        "claims": claims(run),
        "names": names,
    }


#: a training that takes a few milliseconds
SMALL = """\
model: {name: mlp, settings: {hidden: [4], dropout: 0.2}}
data: {path: rows.csv, label: label}
seed: 3
stages:
- finetune: {epochs: 2, batch: 16, step: {adamw: {lr: 0.01}, precision: fp32}}
- audit: {quality: {bootstrap: 0, baselines: false}}
"""


@pytest.fixture
def small(workspace: Path) -> Path:
    """The current folder, with `rows.csv` and a small recipe for it."""
    write_table(workspace / "rows.csv")
    (workspace / "small.yaml").write_text(SMALL)
    return workspace


@pytest.fixture
def checkpoints_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every step."""
    monkeypatch.setattr("assay.training.loop.CHECKPOINT_SECONDS", 0.0)


@pytest.fixture
def stopped(
    small: Path, checkpoints_always: None, assay: Any, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A run that was interrupted in its sixth step."""
    from assay.training.loop import Job

    step = Job.step

    def interrupted(job: Job) -> None:
        if job.steps_done == 5:
            raise KeyboardInterrupt
        step(job)

    with monkeypatch.context() as patch:
        patch.setattr(Job, "step", interrupted)
        said = assay("run", "small.yaml", "--threads", 1)
    assert said.code == 130
    assert said.err.endswith("\nstopped; go on with: assay run --resume runs/small/1\n")
    return Path("runs/small/1")
