"""Going on with a stopped run: what is the same goes on, what has changed is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.faults.conftest import SMALL, outcome, tree

WHERE = "error: runs/small/1: "


def test_an_interrupted_run_goes_on_where_it_was(stopped: Path, assay: Any) -> None:
    (stopped / ".lock").unlink()
    said = assay("run", "--resume", stopped)
    assert said.code == 0
    assert said.out == f"{stopped}/report.html\n" * 2
    assert "resumed at step 5 of 8\n" in said.err
    assert assay("run", "small.yaml", "--threads", 1).code == 0
    assert outcome(stopped) == outcome(Path("runs/small/2"))


def test_a_stopped_run_is_no_model_and_has_no_report(stopped: Path, assay: Any) -> None:
    there = tree(stopped)
    assert not (stopped / "model").exists()
    assert not (stopped / "report.html").exists()
    for command in (("verify", stopped), ("report", stopped)):
        said = assay(*command)
        assert said.code == 4
        assert said.err.startswith(f"error: {stopped}: this run has not finished")
        assert said.err.endswith(f"finish it with: assay run --resume {stopped}\n")
    said = assay("predict", stopped, "rows.csv", "--out", "out.csv")
    assert said.code == 4
    assert said.err.startswith(f"error: {stopped}: neither a model nor a run that has finished")
    assert not Path("out.csv").exists()
    assert tree(stopped) == there


def _append_row() -> None:
    with Path("rows.csv").open("a") as stream:
        stream.write("0.1,0.2,0.3,red,yes\n")


def _change_cell() -> None:
    text = Path("rows.csv").read_text()
    Path("rows.csv").write_text(text.replace("red", "green", 1))


def _rename_column() -> None:
    text = Path("rows.csv").read_text()
    Path("rows.csv").write_text(text.replace("label", "outcome", 1))


@pytest.mark.parametrize("change", [_append_row, _change_cell])
def test_other_data_are_refused(stopped: Path, assay: Any, change: Callable[[], None]) -> None:
    there, data = tree(stopped), Path("rows.csv").read_bytes()
    change()
    said = assay("run", "--resume", stopped)
    assert said.code == 2
    line = "the data rows have changed since this run began; restore them, or start a new run"
    assert said.err.splitlines()[-1] == WHERE + line
    assert tree(stopped) == there
    Path("rows.csv").write_bytes(data)
    assert assay("run", "--resume", stopped).code == 0


def test_data_that_are_gone_are_missed(stopped: Path, assay: Any) -> None:
    there = tree(stopped)
    Path("rows.csv").rename("away.csv")
    said = assay("run", "--resume", stopped)
    assert said.code == 4
    assert "rows.csv: no such file" in said.err
    Path("away.csv").rename("rows.csv")
    _rename_column()
    assert assay("run", "--resume", stopped).code == 4
    assert tree(stopped) == there


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("epochs: 2", "epochs: 3", "stages"),
        ("seed: 3", "seed: 4", "seed"),
        ("[4]", "[5]", "model"),
        ("label: label", "label: label, splits: {seed: 1}", "data"),
    ],
)
def test_another_recipe_is_refused(stopped: Path, assay: Any, old: str, new: str, key: str) -> None:
    there = tree(stopped)
    Path("small.yaml").write_text(SMALL.replace(old, new))
    said = assay("run", "small.yaml", "--resume", stopped)
    assert said.code == 2
    assert said.err == (
        f"{WHERE}the recipe has changed since this run began ({key}); start a new run, or resume "
        "without naming a recipe\n"
    )
    assert tree(stopped) == there
    assert assay("run", "--resume", stopped).code == 0


def test_another_seed_is_refused_and_the_same_recipe_is_not(stopped: Path, assay: Any) -> None:
    assert assay("run", "--resume", stopped, "--seed", 4).code == 2
    assert assay("run", "--resume", stopped, "--set", "stages.finetune.batch=8").code == 2
    assert assay("run", "small.yaml", "--resume", stopped).code == 0


def test_threads_are_those_it_began_with(stopped: Path, assay: Any) -> None:
    said = assay("run", "--resume", stopped, "--threads", 2)
    assert said.code == 0
    assert "threads: 1, as when the run began" in said.err
    assert json.loads((stopped / "environment.json").read_text())["threads"] == 1


def test_a_signed_run_goes_on_with_its_key(small: Path, assay: Any, monkeypatch: Any) -> None:
    for number, name in enumerate(("key", "other")):
        key = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        Path(f"{name}.pem").write_bytes(pem)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("assay.training.loop.Job.step", interrupted)
        assert assay("run", "small.yaml", "--sign", "key.pem", "--threads", 1).code == 130
    run = Path("runs/small/1")
    for arguments in ([], ["--sign", "other.pem"]):
        said = assay("run", "--resume", run, *arguments)
        assert said.code == 2
        assert re.fullmatch(
            rf"error: {run}: this run began with the signing key \w+; give it again with --sign\n",
            said.err,
        )
    assert assay("run", "--resume", run, "--sign", "key.pem").code == 0
    assert assay("run", "small.yaml", "--sign", "key.pem", "--threads", 1).code == 0
    assert tree(run / "model") == tree(Path("runs/small/2/model"))


def test_another_base_model_is_refused(stopped: Path, assay: Any, monkeypatch: Any) -> None:
    assert assay("run", "--resume", stopped).code == 0
    shutil.copytree(stopped / "model", "base")
    text = SMALL.replace("model: {name: mlp, settings: {hidden: [4], dropout: 0.2}}", "model: base")
    Path("more.yaml").write_text(text)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("assay.training.loop.Job.step", interrupted)
        assert assay("run", "more.yaml").code == 130
    assert assay("run", "small.yaml", "--seed", 5).code == 0
    shutil.rmtree("base")
    shutil.copytree("runs/small/2/model", "base")
    said = assay("run", "--resume", "runs/more/1")
    assert said.code == 2
    assert "is not what it was when this run began; restore it, or start" in said.err


@pytest.mark.parametrize(
    ("name", "text", "code", "line"),
    [
        ("state.json", "{", 7, r"/state\.json: not valid JSON"),
        ("state.json", "[]", 7, r"/state\.json: not a valid state; start the run anew"),
        ("state.json", '{"steps": 1}', 7, r"/state\.json: not a valid state; start the run anew"),
        ("state.json", '{"done": "two"}', 7, r"/state\.json: not a valid state"),
        ("environment.json", "{}", 7, r"/environment\.json: not a valid environment; start the"),
        ("environment.json", None, 7, r"/environment\.json: cannot read"),
        ("recipe.yaml", "model: [", 2, r"/recipe\.yaml:1"),
        ("recipe.yaml", None, 2, r": no run to go on with: there is no recipe\.yaml"),
        ("metrics.jsonl", "{}\n", 7, r"/metrics\.jsonl: 3 bytes, but it had \d+ already"),
        ("metrics.jsonl", None, 7, r"/metrics\.jsonl: 0 bytes, but it had \d+ already"),
    ],
)
def test_a_damaged_folder_is_refused(
    stopped: Path, assay: Any, name: str, text: str | None, code: int, line: str
) -> None:
    if text is None:
        (stopped / name).unlink()
    else:
        (stopped / name).write_text(text)
    there = tree(stopped)
    said = assay("run", "--resume", stopped)
    assert said.code == code, said.err
    assert re.match(rf"error: {stopped}{line}", said.err.splitlines()[-1])
    assert "Traceback" not in said.err
    assert tree(stopped) == there


def test_what_is_no_run_cannot_go_on(small: Path, assay: Any) -> None:
    there = tree(small)
    for folder in ("rows.csv", "nowhere", "."):
        said = assay("run", "--resume", folder)
        assert (said.code, said.out) == (2, "")
        assert said.err.startswith(f"error: {folder}: no run to go on with")
        said = assay("run", "small.yaml", "--resume", folder)
        assert (said.code, said.out) == (2, "")
        assert said.err.startswith(f"error: {folder}: this folder holds no run")
    assert assay("run", "small.yaml", "--resume", "a", "--out", "b").code == 2
    assert tree(small) == there
