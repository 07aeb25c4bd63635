"""A training that diverges stops with one line, and leaves a run that is not finished."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import SMALL, tree


@pytest.mark.parametrize(
    ("step", "stage", "line"),
    [
        ("sgd: {lr: 1.0e+30}", "curves: false", "the loss is nan at step "),
        ("sgd: {lr: 1.0e+30}, clip_norm: 1.0", "curves: false", "is nan at step "),
        # the loss of the only step is that of the weights before it
        ("sgd: {lr: 1.0e+30}", "batch: 80", "the validation loss is nan at step 1"),
        ("sgd: {lr: 1.0e+30}, early_stopping: 1", "batch: 80", "the validation loss is nan at"),
        ("sgd: {lr: 1.0e+39}", "batch: 80, curves: false", "the largest weight is nan at step 1"),
    ],
)
def test_it_says_so(small: Path, assay: Any, step: str, stage: str, line: str) -> None:
    text = SMALL.replace("adamw: {lr: 0.01}", step).replace("batch: 16", f"batch: 16, {stage}")
    text = text.replace("batch: 16, batch", "batch").replace("epochs: 2", "epochs: 1")
    Path("bad.yaml").write_text(text)
    for arguments in (["bad.yaml", "--threads", 1], ["--resume", "runs/bad/1"]):
        said = assay("run", *arguments)
        assert said.code == 2
        error = said.err.splitlines()[-1]
        assert error.startswith("error: stages[0].finetune: ")
        assert line in error
        assert error.endswith("; lower lr, add warm-up or clip_norm, or set precision: fp32")
        assert "Traceback" not in said.err
    left = set(tree(Path("runs/bad/1")))
    assert not left & {"model", "report.html", "claims.json", "card.md", "bom.cdx.json"}
    for written in Path("runs/bad/1/metrics.jsonl").read_text().splitlines():
        assert "NaN" not in written
        json.loads(written)


def test_outputs_that_are_none(small: Path, assay: Any) -> None:
    """Weights that are finite, and outputs that are not."""
    text = SMALL.replace("adamw: {lr: 0.01}", "sgd: {lr: 1.0e+38}").replace(
        "epochs: 2", "epochs: 1"
    )
    Path("bad.yaml").write_text(text.replace("batch: 16", "batch: 80, curves: false"))
    said = assay("run", "bad.yaml", "--threads", 1)
    assert said.code == 7
    line = said.err.splitlines()[-1]
    assert line.startswith("error: the model gives ")
    assert line.endswith("; train again with a lower rate or clipping")
    assert not (Path("runs/bad/1") / "report.html").exists()
