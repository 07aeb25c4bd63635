"""What each stage did to each claim."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from assay.report.reading import read_run
from assay.report.timeline import tracks
from tests.report.conftest import claim, stage, statement, write


def events(folder: Path) -> dict[str, list[str]]:
    return {f"{t.name}|{t.about}": [c.event for c in t.cells] for t in tracks(read_run(folder))}


def test_reviews(reviews_run: Path) -> None:
    found = events(reviews_run)
    assert found["Accuracy|food-reviews, test split"] == ["", "added", "voided", "again", "kept"]
    assert found["Accuracy|food-reviews, valid split"] == ["", "added", "voided", "", ""]
    assert found["Parameters|None"] == ["", "added", "kept", "again", "kept"]
    assert found["Size on disk|None"] == ["", "added", "kept", "again", "again"]
    assert found["Latency, median|batch 1, runtime torch"] == [
        "",
        "added",
        "voided",
        "again",
        "voided",
    ]
    assert found["Latency, median|batch 1, runtime onnxruntime"] == ["", "", "", "", "added"]


def test_cells_hold_the_value_of_their_time(reviews_run: Path) -> None:
    accuracy = tracks(read_run(reviews_run))[0]
    assert [c.value for c in accuracy.cells] == ["", "84.5%", "84.5%", "85.7%", "85.7%"]
    assert (accuracy.value, accuracy.status, accuracy.why) == ("85.7%", "holds", None)


def test_a_void_claim_says_which_stage_voided_it(reviews_run: Path) -> None:
    found = {f"{t.name}|{t.about}": str(t.why) for t in tracks(read_run(reviews_run)) if t.why}
    assert found["Accuracy|food-reviews, valid split"] == "voided by stage 2, finetune"
    assert found["Latency, median|batch 1, runtime torch"] == "voided by stage 4, export"


def test_without_a_passport_the_plan_says_what_stages_keep(regression_run: Path) -> None:
    assert events(regression_run)["RMSE|hmda, test split"] == ["", "added"]


def test_what_nobody_recorded_is_not_made_up(tmp_path: Path) -> None:
    write(tmp_path, "plan.json", {"stages": [{"name": "audit"}, {"name": "finetune"}]})
    write(tmp_path, "claims.json", {"claims": [claim("quality.accuracy", 0.5, "fraction", 0)]})
    assert events(tmp_path) == {"Accuracy|None": ["added", ""]}


def test_a_stage_that_keeps_nothing_voids_all(tmp_path: Path) -> None:
    stated = claim("sparsity.zeros", 0.5, "fraction", 0, status="void")
    records = [
        stage(0, "prune", [], ["sparsity.*"]),
        {"type": "claim", "claim": {"stage": 0, "claim": stated}},
        stage(1, "finetune", [], []),
    ]
    write(tmp_path, "model/claims.jsonl", [statement(record) for record in records])
    assert events(tmp_path) == {"Zero weights|None": ["added", "voided"]}


def test_a_failed_claim_says_what_was_measured(make_reviews: Callable[..., Path]) -> None:
    folder = make_reviews()
    forged = claim("quality.accuracy", 0.9, "fraction", 3, status="fails", measured=0.857)
    write(folder, "claims.json", {"ok": False, "claims": [forged]})
    (track,) = tracks(read_run(folder))
    assert str(track.why) == "claimed 90.0%, measured 85.7%"


def test_families_come_in_a_readers_order(tmp_path: Path) -> None:
    kinds = ["latency.p50_ms", "zebra.stripes", "size.bytes", "apple.seeds", "quality.accuracy"]
    write(tmp_path, "claims.json", {"claims": [claim(kind, 1, "count", 0) for kind in kinds]})
    assert [t.claim["kind"] for t in tracks(read_run(tmp_path))] == [
        "quality.accuracy",
        "size.bytes",
        "latency.p50_ms",
        "apple.seeds",
        "zebra.stripes",
    ]
