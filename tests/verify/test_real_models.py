"""The real thing, small: a run of two stages, verified and forged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.verify import Verification, verify


@pytest.fixture
def weigh() -> None:
    """Overrides the stand-ins of this folder: here everything is real."""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a run has finished: runs/small/1 and rows.csv."""
    import assay

    root = tmp_path_factory.mktemp("run")
    draw = np.random.default_rng(0)
    x = draw.normal(size=(150, 2)).round(3)
    y = np.where(x.sum(axis=1) + draw.normal(scale=0.3, size=150) > 0, "yes", "no")
    rows = [f"{a},{b},{label}" for (a, b), label in zip(x, y, strict=True)]
    (root / "rows.csv").write_text("\n".join(["a,b,y", *rows]) + "\n")
    quality = {"bootstrap": 50, "baselines": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assay.Recipe(
            name="small",
            model={"name": "mlp", "settings": {"hidden": [4]}},
            data={"path": "rows.csv", "label": "y"},
            stages=[
                {"finetune": {"epochs": 5, "step": {"adamw": {"lr": 0.05}, "precision": "fp32"}}},
                {"audit": {"quality": quality, "efficiency": {"batches": []}}},
                {"audit": {"quality": {"folds": 2, **quality, "metrics": ["accuracy"]}}},
            ],
            require={"quality.auroc": ">= 0.5"},
        ).run(out=root / "runs" / "small" / "1", threads=1)
    return root


@pytest.fixture
def run(done: Path, workspace: Path) -> Path:
    """A copy of it all in the current folder."""
    shutil.copytree(done, workspace, dirs_exist_ok=True)
    return Path("runs/small/1")


def statuses(found: Verification) -> dict[str, str]:
    return {
        f"{f.claim.kind} {f.claim.split}" if f.claim.split else f.claim.kind: f.status
        for f in found.findings
    }


def test_a_run_verifies(run: Path) -> None:
    found = verify(run, strict=True)
    assert found.ok, found.lines()
    assert found.required is not None
    assert {
        "quality.accuracy test",
        "quality.accuracy out-of-fold",
        "size.parameters",
        "size.bytes",
    } <= set(statuses(found))
    assert verify(run / "model", strict=True).ok


def test_without_training_anew(run: Path) -> None:
    found = verify(run, retrain=False)
    said = statuses(found)
    assert said.pop("quality.accuracy out-of-fold") == "unverifiable"
    assert set(said.values()) == {"holds"}


def test_nothing_is_fetched_to_train_anew(run: Path, make: Any) -> None:
    def change(statements: list[Any]) -> None:
        statements[0]["predicate"]["origin"]["base"] = {"name": "hf:someone/something"}

    make.forge(run / "model", change)
    found = verify(run / "model")
    assert statuses(found)["quality.accuracy out-of-fold"] == "unverifiable"
    assert "nothing is fetched" in found.findings[-1].why


def test_other_weights_under_a_rebuilt_passport_are_found_wrong(run: Path, make: Any) -> None:
    from safetensors.numpy import load_file, save_file

    from assay.files import file_digest

    path = run / "model" / "model.safetensors"
    tensors = {name: -tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path)

    def change(statements: list[Any]) -> None:
        for statement in statements[1:]:
            statement["subject"][0]["digest"]["sha256"] = file_digest(path)
            if statement["predicate"]["type"] == "stage":
                statement["predicate"]["stage"]["subject"] = file_digest(path)

    make.forge(run / "model", change)
    found = verify(run)
    assert found.exit_code == 3
    assert statuses(found)["quality.accuracy test"] == "fails"
    assert statuses(found)["size.parameters"] == "holds"


def test_a_run_that_is_moved_whole(run: Path, tmp_path_factory: Any, monkeypatch: Any) -> None:
    away = tmp_path_factory.mktemp("away")
    shutil.move(run / "model", away / "handed-on")
    monkeypatch.chdir(away)
    found = verify(away / "handed-on", retrain=False)
    assert found.ok
    assert statuses(found)["quality.accuracy test"] == "unverifiable"
    here = json.dumps(found.as_json())
    assert "handed-on" not in here
