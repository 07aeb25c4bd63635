"""What is read of a run folder, whole or not."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.errors import ArtefactError, LoadError
from assay.report.reading import RunFiles, read_run
from tests.report.conftest import claim, regression, stage, stated, statement, write


def signed(content: Any) -> dict[str, Any]:
    """A DSSE envelope around it."""
    payload = base64.b64encode(json.dumps(content).encode()).decode()
    return {"payloadType": "application/vnd.in-toto+json", "payload": payload, "signatures": []}


def test_a_whole_run(reviews_run: Path) -> None:
    run = read_run(reviews_run)
    assert (run.folder, run.recipe_name, run.run) == ("runs/reviews/3", "reviews", "3")
    assert run.model["name"] == "minilm-l6"
    assert run.data["split_rows"] == {"train": 3600, "valid": 400, "test": 1000}
    assert run.task == "text-classification"
    assert [s.name for s in run.stages] == ["finetune", "audit", "finetune", "audit", "export"]
    assert [s.seconds for s in run.stages] == [171.3, 24.8, 66.0, 24.9, 31.2]
    assert run.stages[2].keeps == ("size.*",)
    assert run.passport == (37, "9b3a" * 16)
    assert len(run.claims) == 17 and len(run.history) == 31
    assert run.machine == "Intel Xeon @ 2.90 GHz"
    assert run.common == {"threads": "2"}
    assert run.ok is True and not run.private


def test_a_run_without_a_passport(regression_run: Path) -> None:
    run = read_run(regression_run)
    assert run.recipe_name == "loans" and run.task == "tabular-regression"
    assert run.model["name"] == "mlp" and run.private
    assert [s.keeps for s in run.stages] == [(), ("quality.*", "size.*")]
    assert run.stages[0].moves is None
    assert run.history == ()


@pytest.mark.parametrize("shape", ["bare", "statement", "envelope"])
def test_records_are_found_in_whatever_carries_them(tmp_path: Path, shape: str) -> None:
    made = claim("quality.accuracy", 0.9, "fraction", 0)
    records = [{"type": "origin", "origin": {}}, stage(0, "audit", [], []), stated(0, made)]
    lines: list[Any] = records if shape == "bare" else [statement(r) for r in records]
    if shape == "envelope":
        lines = [signed(line) for line in lines]
    write(tmp_path, "model/claims.jsonl", lines)
    head = {"count": 3, "last": "ab" * 32, "files": {}}
    write(tmp_path, "model/head.json", signed(head) if shape == "envelope" else head)
    run = read_run(tmp_path)
    assert [(index, c["value"]) for index, c in run.history] == [(0, 0.9)]
    assert [(c["kind"], c["stage"]) for c in run.claims] == [("quality.accuracy", 0)]
    assert run.passport == (3, "ab" * 32)


def test_stages_of_the_base_models_runs_stand_below_zero(tmp_path: Path) -> None:
    old, new = (claim("quality.accuracy", value, "fraction", 0) for value in (0.8, 0.9))
    first = [{"type": "origin", "origin": {"recipe": "base"}}, stage(0, "finetune", [], [])]
    first += [stage(1, "audit", ["*"], ["quality.*"]), stated(1, old)]
    last = [{"type": "origin", "origin": {"recipe": "mine"}}, stage(0, "audit", ["*"], [])]
    write(tmp_path, "model/claims.jsonl", [*first, *last, stated(0, new)])
    run = read_run(tmp_path)
    assert run.recipe_name == "mine"
    assert [(s.index, s.name) for s in run.stages] == [
        (-2, "finetune"),
        (-1, "audit"),
        (0, "audit"),
    ]
    assert [index for index, _ in run.history] == [-1, 0]


def test_one_file_is_enough(tmp_path: Path) -> None:
    write(tmp_path / "1", "recipe.yaml", "model: [unclosed")
    run = read_run(tmp_path / "1")
    assert run.recipe == {} and run.recipe_text == "model: [unclosed"
    assert run == RunFiles(
        folder="1", recipe_name=tmp_path.name, run="1", recipe_text="model: [unclosed",
        model={"name": ""}, data={"name": "", "digest": None, "split_rows": {}},
        final={"name": ""},
    )  # fmt: skip


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="no such run folder; name a folder that a run made"):
        read_run(tmp_path / "absent")
    with pytest.raises(LoadError, match="none of a run's files"):
        read_run(tmp_path)


@pytest.mark.parametrize("name", ["claims.json", "environment.json", "evidence/1-quality.json"])
def test_a_damaged_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = regression(tmp_path / "1")
    write(folder, name, '{"ok": true, ')
    with pytest.raises(ArtefactError, match=name):
        read_run(folder)


@pytest.mark.parametrize("line", ['{"type": "sta', '{"payload": "***"}', '{"a": 1, "a": 2}'])
def test_a_damaged_passport_is_refused(tmp_path: Path, line: str) -> None:
    write(tmp_path, "model/claims.jsonl", json.dumps({"type": "origin"}) + "\n" + line)
    with pytest.raises(ArtefactError, match=r"claims\.jsonl:2"):
        read_run(tmp_path)


def test_a_log_that_a_kill_cut_short_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    write(tmp_path, "metrics.jsonl", '{"stage": 0, "loss": NaN}\n[1]\n{"stage": 0, "lo')
    assert len(read_run(tmp_path).metrics) == 1


def test_time_of_a_stage_is_not_counted_twice(make_reviews: Callable[..., Path]) -> None:
    folder = make_reviews()
    write(folder, "timings.jsonl", [
        {"stage": 0, "epoch": 1, "seconds": 3}, {"stage": 0, "epoch": 2, "seconds": 4},
        {"stage": 0, "seconds": 8}, {"stage": 1, "step": 1, "seconds": 2.5},
        {"stage": 1, "step": 2, "seconds": 2.5}, {"stage": "x", "seconds": 1},
        {"stage": 2, "seconds": "soon"}])  # fmt: skip
    assert [s.seconds for s in read_run(folder).stages] == [8.0, 5.0, None, None, None]
