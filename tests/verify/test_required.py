from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.claims import Claim, Requirement
from assay.claims.claim import Status
from assay.errors import ArtefactError, LoadError
from assay.verify import Finding, judge, verify
from assay.verify.required import requirements_of


def finding(status: Status = "holds", value: Any = 0.8, **more: Any) -> Finding:
    claim = Claim(kind="quality.accuracy", value=value, unit="fraction", **more)
    return Finding(claim, 0, status, why="because")


def require(bound: str | None = ">= 0.75", **more: Any) -> Requirement:
    text = {"text": bound} if bound else None
    return Requirement.model_validate({"kind": "quality.accuracy", "bound": text, **more})


@pytest.mark.parametrize(
    ("status", "strict", "ok", "why"),
    [
        ("holds", True, True, ""),
        ("fails", False, False, "the claim fails: because"),
        ("unverifiable", False, True, ""),
        ("unverifiable", True, False, "the claim unverifiable: because"),
        ("void", False, False, "the claim is void: because"),
    ],
)
def test_what_meets_a_requirement(status: Status, strict: bool, ok: bool, why: str) -> None:
    (verdict,) = judge([require()], [finding(status)], strict)
    assert verdict.ok is ok
    assert verdict.why == why


def test_a_missed_bound_says_by_how_much() -> None:
    (verdict,) = judge([require(">= 0.9", split="test")], [finding(split="test")])
    assert verdict.row() == {
        "kind": "quality.accuracy",
        "bound": ">= 0.9",
        "value": 0.8,
        "ok": False,
        "miss": pytest.approx(0.1),
        "where": "test",
    }
    assert (
        verdict.line() == "required quality.accuracy >= 0.9 on test: MISSED, 0.8 misses it by 0.1"
    )


def test_a_bare_requirement_need_only_hold() -> None:
    (verdict,) = judge([require(None)], [finding()])
    assert verdict.row()["bound"] is None
    assert verdict.line() == "required quality.accuracy to hold: met by 0.8"
    assert not judge([require(None)], [finding("fails")])[0].ok


def test_text_meets_no_bound() -> None:
    (verdict,) = judge([require()], [finding(value="good")])
    assert (verdict.ok, verdict.miss, verdict.why) == (False, None, "'good' is not a number")


def test_nobody_claimed_it() -> None:
    (verdict,) = judge([require(split="valid")], [finding(split="test")])
    assert (verdict.ok, verdict.value, verdict.why) == (False, None, "no stage claimed it")


def test_void_claims_make_nothing_ambiguous() -> None:
    findings = [finding("void", split="valid"), finding(split="test")]
    assert judge([require()], findings)[0].ok
    (verdict,) = judge([require()], [finding(split="valid"), finding(split="test")])
    assert not verdict.ok
    assert "ambiguous" in verdict.why
    assert "name dataset, split or conditions" in verdict.line()


@pytest.mark.parametrize(
    "written",
    [
        {"quality.accuracy": ">= 0.75"},
        {"quality.accuracy": {"bound": ">= 0.75"}},
        {"quality.accuracy": {"bound": {"text": ">= 0.75"}}},
        [{"kind": "quality.accuracy", "bound": ">= 0.75", "dataset": None, "conditions": {}}],
    ],
)
def test_ways_to_write_requirements(tmp_path: Path, written: Any) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"require": written}))
    assert requirements_of(path) == (require(),)


@pytest.mark.parametrize("text", ["model: mlp", "require:", "require: []", "require: {}"])
def test_no_requirements(tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    assert requirements_of(tmp_path / "recipe.yaml") == ()


@pytest.mark.parametrize(
    "text",
    ["", "a: [", "[]", "require: 3", "require: [3]", "require: [{kind: x}]", "require: {a.b: x}"],
)
def test_a_damaged_recipe(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ArtefactError) as caught:
        requirements_of(path)
    assert "\n" not in str(caught.value)
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ArtefactError, match="cannot read the recipe"):
        requirements_of(path)


# --- run folders ---


@pytest.fixture
def run(make: Any) -> Path:
    folder: Path = make.write(make.stage(make.start()), "runs/small/1/model")
    return folder.parent


def write_recipe(run: Path, **require: Any) -> None:
    (run / "recipe.yaml").write_text(yaml.safe_dump({"name": "small", "require": require}))


def test_a_run_that_meets_what_it_requires(run: Path) -> None:
    write_recipe(run, **{"quality.accuracy": ">= 0.5", "size.bytes": "<= 7"})
    found = verify(run)
    assert found.ok
    assert [row["ok"] for row in found.as_json()["require"]] == [True, True]
    assert found.lines()[-1] == "required size.bytes <= 7: met by 7"


def test_a_run_that_does_not(run: Path) -> None:
    write_recipe(run, **{"quality.accuracy": ">= 0.999"})
    found = verify(run)
    assert {row["status"] for row in found.claims} == {"holds"}
    assert not found.ok
    assert found.exit_code == 3
    assert not found.as_json()["ok"]
    assert found.lines()[0] == (
        "NOT verified: 3 holds; 1 of 1 requirements missed; consistent, not authenticated"
    )


def test_a_model_folder_alone_requires_nothing(run: Path) -> None:
    write_recipe(run, **{"quality.accuracy": ">= 0.999"})
    found = verify(run / "model")
    assert found.ok
    assert "require" not in found.as_json()


def test_required_and_then_voided(make: Any) -> None:
    passport = make.stage(make.stage(make.start()), silent=True, claims=False)
    folder = make.write(passport, "runs/small/2/model").parent
    write_recipe(folder, **{"quality.accuracy": ">= 0.5"})
    found = verify(folder)
    assert found.exit_code == 3
    assert found.required is not None
    assert found.required[0].why.startswith("the claim is void: stage 1 (weigh)")


def test_a_run_without_a_recipe_is_a_model(run: Path) -> None:
    assert verify(run).required is None


def test_a_run_that_has_not_finished(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").touch()
    with pytest.raises(LoadError, match="has not finished"):
        verify(tmp_path)


def test_a_run_whose_recipe_was_damaged(run: Path) -> None:
    (run / "recipe.yaml").write_text("require: 3")
    with pytest.raises(ArtefactError, match="not a recipe"):
        verify(run)
