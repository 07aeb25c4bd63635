"""`--resume` after `kill -9` at every instant of a run gives what an undisturbed run gives."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import outcome, program, tree, write_table

RECIPE = """\
model: {name: mlp, settings: {hidden: [4], dropout: 0.2}}
data: {path: rows.csv, label: label}
seed: 3
stages:
- finetune:
    epochs: 4
    batch: 16
    step:
      adamw: {lr: 0.5}
      plateau: {patience: 0}
      ema: 0.9
      early_stopping: 2
      dropout: 0.1
      accumulate: 2
- audit: {quality: {bootstrap: 20, baselines: false}, efficiency: {batches: []}}
- export
"""
HALF = b'{"accuracy": 0.5, "ep'


def state(folder: Path) -> dict[str, Any]:
    path = folder / "state.json"
    return json.loads(path.read_text()) if path.exists() else {"done": -1, "finished": False}


class Recorded:
    """An undisturbed run, the copies of its folder at every instant, and what became of them."""

    def __init__(self, home: Path) -> None:
        self.home, self.run, self.copies = home, home / "run", home / "copies"
        self.before: dict[str, list[str]] = {}

    def record(self) -> None:
        write_table(self.home / "rows.csv")
        (self.home / "small.yaml").write_text(RECIPE)
        self.copies.mkdir()
        done = program("record", "small.yaml", "run", "copies", cwd=self.home, seed=1)
        assert done.code == 0, done.err
        # a process may also die within a line
        for number, folder in enumerate(self.every()):
            log = folder / "metrics.jsonl"
            if state(folder)["done"] == 0 and log.exists() and number % 2:
                log.write_bytes(log.read_bytes() + HALF)
        self.before = {f.name: list(tree(f)) for f in self.every()}

    def every(self) -> list[Path]:
        return sorted(p for p in self.copies.iterdir() if p.is_dir())

    def middle(self) -> Path:
        """A copy with two whole checkpoints of the first stage and a log beyond them."""
        found = [f for f in self.every() if len(steps(f)) == 2 and state(f)["done"] == 0]
        return found[-1]

    def damage(self) -> None:
        """More copies, damaged in ways of which a resumed run shall recover."""
        middle = self.middle()
        newest = self.another(middle, "newest-torn")
        steps(newest)[-1].write_bytes(steps(newest)[-1].read_bytes()[:-7])
        for path in steps(self.another(middle, "all-flipped")):
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        audited = next(f for f in self.every() if state(f)["done"] == 2)
        model = self.another(audited, "model-flipped") / "checkpoints/after-1/model.safetensors"
        data = bytearray(model.read_bytes())
        data[-1] ^= 1
        model.write_bytes(data)

    def another(self, folder: Path, name: str) -> Path:
        return Path(shutil.copytree(folder, self.copies / name))

    def resume(self) -> None:
        graph = self.run / "model/model.onnx"
        done = program("resume", "small.yaml", "copies", graph, cwd=self.home, seed=2)
        assert done.code == 0, done.err

    def said(self, folder: Path) -> tuple[int | str, str]:
        found = json.loads(folder.with_suffix(".json").read_text())
        return found["code"], found["said"]


def steps(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints/stage-0").glob("step-*.safetensors"))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    made = Recorded(tmp_path_factory.mktemp("instants"))
    made.record()
    made.damage()
    made.resume()
    return made


def test_every_instant_resumes_to_the_same_bytes(recorded: Recorded) -> None:
    wanted = outcome(recorded.run)
    resumable = [n for n, there in recorded.before.items() if "recipe.yaml" in there]
    assert len(resumable) > 90
    for folder in (recorded.copies / name for name in resumable):
        code, said = recorded.said(folder)
        assert code == 0, (folder, said)
        assert outcome(folder) == wanted, folder


def test_before_its_path_is_printed_there_is_no_run(recorded: Recorded) -> None:
    early = [n for n, there in recorded.before.items() if "recipe.yaml" not in there]
    assert 0 < len(early) < 10
    for folder in (recorded.copies / name for name in early):
        code, said = recorded.said(folder)
        assert code == 2
        assert said.startswith(f"error: copies/{folder.name}: no run to go on with")
        assert said.count("\n") == 1


def test_its_training_has_everything_to_remember(recorded: Recorded) -> None:
    """The best weights are those of the first epoch, the rate falls, and it stops early."""
    lines = [json.loads(x) for x in (recorded.run / "metrics.jsonl").read_text().splitlines()]
    valid = [x["loss"] for x in lines if x["split"] == "valid"]
    assert len(valid) == 3
    assert valid[0] == min(valid)
    rates = [x["lr"] for x in lines if x["kind"] == "step"]
    assert rates == [0.5]
    assert max(x["step"] for x in lines) == 6


@pytest.mark.parametrize(
    "pattern",
    [
        r"\.state\.json\..*\.tmp",
        r"checkpoints/stage-0/\.step-000000002-.*\.tmp",
        r"checkpoints/\.after-0\.new/\.model\.safetensors\..*\.tmp",
        r"checkpoints/\.after-2\.new/head\.json",
        r"evidence/\.1-quality\.json\..*\.tmp",
        r"checkpoints/stage-2/\.model\.onnx\..*\.tmp",
        r"\.claims\.json\..*\.tmp",
        r"\.report\.html\..*\.tmp",
    ],
)
def test_the_instants_are_those_that_matter(recorded: Recorded, pattern: str) -> None:
    assert any(re.fullmatch(pattern, name) for there in recorded.before.values() for name in there)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(recorded: Recorded) -> None:
    folder = recorded.copies / "newest-torn"
    code, said = recorded.said(folder)
    assert code == 0
    assert re.search(r"checkpoint step-0*5-\w+\.safetensors is damaged .*the one before\n", said)
    assert "resumed at step 4 of 8" in said
    assert outcome(folder) == outcome(recorded.run)


def test_without_a_whole_checkpoint_the_stage_begins_anew(recorded: Recorded) -> None:
    folder = recorded.copies / "all-flipped"
    code, said = recorded.said(folder)
    assert code == 0
    assert said.count("is damaged") == 2
    assert "beginning the stage anew" in said
    assert "resumed at step" not in said
    assert outcome(folder) == outcome(recorded.run)


def test_a_damaged_model_between_stages_sends_back_to_the_first(recorded: Recorded) -> None:
    folder = recorded.copies / "model-flipped"
    code, said = recorded.said(folder)
    assert code == 0
    assert "after-1); going back to the first stage" in said
    assert "stage 1 of 3: finetune" in said
    assert outcome(folder) == outcome(recorded.run)
