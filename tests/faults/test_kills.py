"""Long: real processes, really killed, at random and over and over."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

import pytest

from tests.faults.conftest import outcome, program, start, write_table
from tests.tiny import write_reviews, write_tokenizer

pytestmark = pytest.mark.long

TABLE = """\
model: {name: mlp, settings: {hidden: [16, 8], dropout: 0.2}}
data: {path: rows.csv, label: label}
seed: 3
stages:
- finetune:
    epochs: 3
    batch: 8
    step: {adamw: {lr: 0.01}, plateau: 0, ema: 0.9, early_stopping: 2, dropout: 0.1, accumulate: 2}
- audit: {quality: {bootstrap: 200}, efficiency: {seconds: 0.01}}
- audit: {quality: {folds: 2, bootstrap: 20, baselines: false}}
- export
"""

TEXT = """\
model:
  name: bert
  settings: {hidden_size: HIDDEN, layers: 2, heads: 2, intermediate_size: 64, dropout: 0.1}
  tokenizer: words
  max_length: 16
data: {path: reviews.jsonl, label: label, text: [text]}
seed: 5
stages:
- finetune: {epochs: 2, batch: 8, step: {adamw: {lr: 0.001}, one_cycle: {warmup: 0.2}, ema: 0.9}}
- finetune: {epochs: 2, batch: 8, parameters: {last: 1}, step: {sgd: {lr: 0.01, momentum: 0.9}}}
- finetune:
    epochs: 3
    batch: 8
    parameters: {lora: {rank: 2}}
    step: {adam: {lr: 0.01}, early_stopping: 1, clip_norm: 1.0}
- export: peft
- merge
- audit: {quality: {bootstrap: 50}, efficiency: {seconds: 0.01}}
- export
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, recipes and an undisturbed run of each."""
    folder = tmp_path_factory.mktemp("kills")
    write_table(folder / "rows.csv")
    write_reviews(folder / "reviews.jsonl", rows=96)
    write_tokenizer(folder / "words")
    (folder / "table.yaml").write_text(TABLE)
    (folder / "text.yaml").write_text(TEXT.replace("HIDDEN", "16"))
    (folder / "wide.yaml").write_text(TEXT.replace("HIDDEN", "128"))
    for name, threads in (("table", 1), ("text", 1), ("wide", 2)):
        done = program("run", 0, f"{name}.yaml", "--out", name, "--threads", threads, cwd=folder)
        assert done.code == 0, done.err
    return folder


def die(home: Path, arguments: tuple[object, ...], chance: random.Random) -> int:
    """Run until a kill at a random instant, or to the end; gives the exit code."""
    seed = chance.randrange(1000)
    if chance.random() < 0.5:
        return program("run", chance.randrange(1, 120), *arguments, cwd=home, seed=seed).code
    with start("run", 0, *arguments, cwd=home, seed=seed) as process:
        assert process.stdout is not None
        if chance.random() < 0.2:
            time.sleep(chance.uniform(0, 4))
        else:
            process.stdout.readline()
            time.sleep(chance.uniform(0, 2))
        process.kill()
        process.communicate()
    return process.returncode


@pytest.mark.parametrize(
    ("name", "threads", "kills", "seed"),
    [("table", 1, 12, 1), ("text", 1, 24, 2), ("wide", 2, 12, 3)],
)
def test_random_kills(home: Path, name: str, threads: int, kills: int, seed: int) -> None:
    """Every run is killed again and again until it is done, then the next one begins."""
    chance, killed, runs = random.Random(seed), 0, 0
    wanted = outcome(home / name)
    while killed < kills:
        runs += 1
        run = home / f"{name}-{runs}"
        code = -1
        while code != 0:
            arguments: tuple[object, ...] = (f"{name}.yaml", "--out", run.name)
            arguments = (*arguments, "--threads", threads)
            if (run / "recipe.yaml").exists():
                arguments = ("--resume", run.name)
            elif run.exists():  # killed before it could be resumed, and before it said its name
                assert not (run / "state.json").exists()
                runs += 1
                run = home / f"{name}-{runs}"
                continue
            code = die(home, arguments, chance)
            assert code in (0, -signal.SIGKILL)
            killed += code != 0
            if killed >= kills and (run / "recipe.yaml").exists():
                done = program("run", 0, "--resume", run.name, cwd=home, seed=killed)
                code = done.code
                assert code == 0, done.err
        assert outcome(run) == wanted
        assert json.loads((run / "state.json").read_text())["finished"] is True


@pytest.mark.parametrize("name", ["table", "text"])
def test_every_instant_of_all_stages(home: Path, name: str) -> None:
    copies = home / f"{name}-copies"
    copies.mkdir()
    assert program("record", f"{name}.yaml", f"{name}-run", copies, cwd=home, seed=1).code == 0
    graph = home / name / "model/model.onnx"
    assert program("resume", f"{name}.yaml", copies, graph, cwd=home, seed=2).code == 0
    wanted, resumed = outcome(home / name), 0
    assert outcome(home / f"{name}-run") == wanted
    for folder in sorted(p for p in copies.iterdir() if p.is_dir()):
        found = json.loads(folder.with_suffix(".json").read_text())
        if "there is no recipe.yaml" in found["said"]:
            continue
        assert found["code"] == 0, (folder, found["said"])
        assert outcome(folder) == wanted, folder
        resumed += 1
    assert resumed > 120


def test_two_runs_at_once_into_one_folder(home: Path) -> None:
    arguments = ("run", 0, "table.yaml", "--out", "shared", "--threads", 1)
    with start(*arguments, cwd=home) as one, start(*arguments, cwd=home) as other:
        said = [process.communicate() for process in (one, other)]
    codes = sorted(process.returncode for process in (one, other))
    assert codes == [0, 2]
    refusal = next(err for (_, err), p in zip(said, (one, other), strict=True) if p.returncode)
    assert refusal.startswith("error: shared: ")
    assert refusal.count("\n") == 1
    assert outcome(home / "shared") == outcome(home / "table")
