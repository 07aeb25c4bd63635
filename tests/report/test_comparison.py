"""The page of a comparison: true to what was found, in both languages, whole for bare models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from assay.errors import LoadError
from assay.report.comparison import write_comparison
from tests.report.conftest import regression
from tests.report.test_page import Node, Page, sound


def found(a: Path, b: Path, **change: Any) -> dict[str, Any]:
    accuracy = {
        "metric": "accuracy", "a": 0.8, "b": 0.857, "difference": 0.057,
        "interval": [0.02, 0.09], "level": 0.95, "n": 1000, "differs": True,
    }  # fmt: skip
    loss = {**accuracy, "metric": "log_loss", "a": 0.5, "b": 0.52, "difference": 0.02,
            "interval": [-0.01, 0.05], "differs": False}  # fmt: skip
    brier = {**loss, "metric": "brier", "difference": -0.1, "interval": [-0.2, -0.05]}
    auroc = {**loss, "metric": "auroc", "a": None, "difference": None, "interval": None}
    return {
        "a": str(a), "b": str(b), "dataset": "food-reviews", "split": "test", "rows": 1000,
        "units": 900, "same": 0.91, "differences": [loss, accuracy, brier, auroc], **change,
    }  # fmt: skip


def page_of(value: dict[str, Any], folder: Path) -> Page:
    path = write_comparison(value, folder / "c.html")
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def page(reviews_run: Path, tmp_path: Path) -> Page:
    return page_of(found(reviews_run, reviews_run / "model"), tmp_path)


def rows(page: Page, section: str) -> list[list[str]]:
    table = page.root.one("section", id=section).one("table")
    return [[c.text for c in r.children if isinstance(c, Node)] for r in table.all("tr")[1:]]


def test_the_answer(page: Page) -> None:
    sound(page)
    answer = page.root.one("section", id="answer")
    assert answer.one("h1").text == "Accuracy: B is better."
    first, *others = (p.text for p in answer.all("p"))
    assert first == (
        "Accuracy is 80.0% for A and 85.7% for B, 5.7 points apart, "
        "on food-reviews, test split, 1,000 rows."
    )
    assert others == [
        "The interval of B − A, +2.0 to +9.0, leaves out zero.",
        "Of 4 metrics, A is better in 0 and B in 2; 2 do not tell them apart.",
        "Both decide alike on 91.0% of the rows.",
    ]
    assert answer.one("h1").chinese == "准确率：B 更好。"
    assert "在 food-reviews 的 test 集（1,000 行）上" in answer.chinese


def test_differences_are_those_found(page: Page) -> None:
    told = rows(page, "differences")
    assert [row[0] for row in told] == [
        "Log loss, lower is better",
        "Accuracy",
        "Brier score, lower is better",
        "AUROC",
    ]
    assert [row[1] for row in told] == ["0.500", "80.0%", "0.500", "–"]
    assert [row[5] for row in told] == ["not told apart", "B better", "B better", "not told apart"]
    assert told[1][3] == "+5.7 points+2.0 to +9.0"
    assert told[2][3] == "−0.100−0.200 to −0.050"
    values = [
        [d.attributes["value"] for d in row.all("data")]
        for row in page.root.one("section", id="differences").all("tr")[1:]
    ]
    assert values[1] == ["0.8", "0.857", "0.057"]
    assert values[3] == ["", "0.52", ""]


def test_which_requirements_hold_for_which(reviews_run: Path, tmp_path: Path) -> None:
    other = tmp_path / "runs" / "other" / "1"
    shutil.copytree(reviews_run, other)
    claims = json.loads((other / "claims.json").read_text())
    (item,) = [r for r in claims["require"] if r["kind"] == "quality.accuracy"]
    item.update(bound=">= 0.9", ok=False)
    (other / "claims.json").write_text(json.dumps(claims))
    told = rows(page_of(found(reviews_run, other), tmp_path), "requirements")
    accuracy = [row for row in told if row[0].startswith("Accuracy")]
    assert [[row[1].split()[-1], row[2].split()[-1]] for row in accuracy] == [
        ["holds", "holds"],
        ["fails", "fails"],
    ]
    assert "at least 84%" in accuracy[0][0]
    assert "at least 90%" in accuracy[1][0]


def test_claims_stand_side_by_side(page: Page, reviews_run: Path) -> None:
    claims = json.loads((reviews_run / "claims.json").read_text())["claims"]
    shown = page.root.one("section", id="both").all("tr")[1:]
    assert sorted(
        (row.attributes["data-kind"], *(d.attributes["value"] for d in row.all("data")))
        for row in shown
    ) == sorted((c["kind"], str(c["value"]), str(c["value"])) for c in claims)


def test_a_model_without_its_run(reviews_run: Path, tmp_path: Path) -> None:
    shutil.copytree(reviews_run / "model", tmp_path / "alone")
    made = page_of(found(tmp_path / "alone", tmp_path / "alone", differences=[]), tmp_path)
    sound(made)
    assert made.root.one("h1").text == "No metric is defined for both."
    assert not made.root.all("section", id="requirements")
    assert made.root.one("section", id="both").all("data")


def test_private_models_give_a_private_page(tmp_path: Path) -> None:
    run = regression(tmp_path / "runs" / "r" / "1")
    plan = json.loads((run / "plan.json").read_text())
    plan["data"]["private"] = True
    (run / "plan.json").write_text(json.dumps(plan))
    (run / "model").mkdir(exist_ok=True)
    path = write_comparison(found(run, run), tmp_path / "c.html")
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_model(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="no model is here"):
        write_comparison(found(tmp_path, tmp_path), tmp_path / "c.html")
