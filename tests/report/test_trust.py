"""Calibration, transfer and mistakes on the page: the numbers that audits kept, and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assay.audit.measures.intervals import wilson
from assay.report.reading import read_run
from assay.report.strings import speaking
from assay.report.trust import bins_of, calibrations, mistakes, transfers
from tests.report.conftest import IMAGE, TRANSFER, calibration, full, regression, reviews, write
from tests.report.test_page import Node, Page, page_of, sound


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return full(tmp_path_factory.mktemp("full") / "runs" / "reviews" / "3")


@pytest.fixture(scope="module")
def page(run_folder: Path) -> Page:
    return Page((run_folder / "report.html").read_text(encoding="utf-8"))


def evidence(folder: Path, name: str, value: Any) -> Path:
    reviews(folder)
    write(folder, f"evidence/{name}.json", value)
    return folder


def test_before_and_after_stand_beside_each_other(page: Page) -> None:
    section = page.root.one("section", id="calibration")
    titles = [figure.one("figcaption").text for figure in section.all("figure")]
    assert titles == [
        "As measured at stage 1 (audit)",
        "How large the sets are",
        "As measured at stage 3 (audit)",
        "How large the sets are",
    ]
    notes = [p.text for p in section.all("p", **{"class": "note"})]
    assert notes[0] == "ECE 0.120, n = 700."
    assert notes[2] == "ECE 0.010, n = 700."
    assert notes[1] == (
        "The sets hold the true class in 91.4% of the rows (interval 89.1 to 93.3%), "
        "where 90% was promised; a set has 1.41 classes on average."
    )
    assert "阶段 1（audit）的测量" in section.chinese
    assert "ECE 为 0.120，n = 700。" in section.chinese
    # the picture of the quality audit would say the same again
    assert "Reliability" not in page.root.one("section", id="errors").text


def test_the_interval_of_ece_is_that_of_its_claim(tmp_path: Path) -> None:
    folder = evidence(tmp_path / "r" / "1", "4-calibration", calibration(0.03))
    lines = (folder / "model/claims.jsonl").read_text().splitlines()
    added = {
        "predicate": {
            "type": "claim",
            "claim": {
                "claim": {"kind": "calibration.ece", "value": 0.03, "interval": [0.02, 0.05]}
            },
        }
    }
    (folder / "model/claims.jsonl").write_text("\n".join([*lines, json.dumps(added)]) + "\n")
    run = read_run(folder)
    assert run.history[-1][0] == 4
    (one,) = calibrations(run)
    assert str(one.chart.caption[0]) == "ECE 0.030 (interval 0.020 to 0.050), n = 700."


def test_wilson_s_interval_where_rows_are_independent() -> None:
    given = [{"from": 0.5, "to": 0.6, "count": 20, "confidence": 0.55, "frequency": 0.4}]
    (plain,) = bins_of(given)
    (sure,) = bins_of(given, intervals=True)
    assert plain.interval is None
    assert sure.interval == wilson(8, 20)


@pytest.mark.parametrize(
    "odd",
    [
        None,
        [None],
        [{"low": 0, "high": 1}],
        [{"low": 0.0, "high": 1.0, "confidence": 0.5, "accuracy": 1.5, "n": 3}],
        [{"low": 0.0, "high": 1.0, "confidence": 0.5, "accuracy": float("nan"), "n": 3}],
        [{"low": 0.0, "high": 1.0, "confidence": 0.5, "accuracy": 0.5, "n": 0}],
    ],
)
def test_odd_bins_are_left_out(odd: Any) -> None:
    assert bins_of(odd) == []


def test_transfer_shows_both_curves_and_the_gain(page: Page) -> None:
    section = page.root.one("section", id="transfer")
    rows = [[c.text for c in r.children if isinstance(c, Node)] for r in section.all("tr")[1:]]
    assert rows == [
        ["10", "71.0%", "52.0%", "+19.0+15.0 to +23.0"],
        ["50", "82.0%", "75.0%", "+7.0+5.0 to +9.0"],
    ]
    assert [d.attributes["value"] for d in section.all("data")] == ["0.19", "0.07"]
    assert section.one("caption").text == "Accuracy on 2,000 rows of the test split, 2 seeds each."
    english, chinese = section.all("svg")[:2]
    for text in ("+19.0", "pretrained", "from scratch", "labels a class"):
        assert text in english.text
    for text in ("+19.0", "预训练", "从零训练", "每类标签数"):
        assert text in chinese.chinese


@pytest.mark.parametrize("key", ["k", "pretrained", "scratch"])
def test_a_transfer_without_a_curve_is_left_out(key: str, tmp_path: Path) -> None:
    folder = evidence(tmp_path / "r" / "1", "3-transfer", {**TRANSFER, key: None})
    assert transfers(read_run(folder)) == []
    sound(page_of(folder))


def test_mistakes_have_their_picture_or_text(page: Page, run_folder: Path) -> None:
    first, second = mistakes(read_run(run_folder))
    assert (first.text, first.image) == ("Not as <great> as they say.", "")
    assert (second.text, second.image) == ("", IMAGE)
    section = page.root.one("section", id="errors")
    items = section.one("ul").all("li")
    assert items[0].one("blockquote").text == "Not as <great> as they say."
    assert items[1].one("img").attributes == {"alt": "", "src": IMAGE}
    assert "other, taken for great" in items[0].text
    assert "row 7, 99.8% sure" in items[0].text
    assert "other，被当成 great" in items[0].chinese


@pytest.mark.parametrize(
    "image",
    [
        "https://example.org/a.png",
        "data:image/svg+xml;base64,AAAA",
        'data:image/png;base64,AAAA" onload="x',
        "data:image/png;base64," + "A" * 70_000,
        7,
    ],
)
def test_only_small_pictures_stand_in_the_page(image: Any, tmp_path: Path) -> None:
    row = {"id": 1, "label": "a", "predicted": "b", "confidence": 0.9, "image": image}
    folder = evidence(tmp_path / "r" / "1", "3-mistakes", {"split": "test", "rows": [row]})
    (found,) = mistakes(read_run(folder))
    assert found.image == ""
    sound(page_of(folder))


def test_no_mistakes_of_private_data(tmp_path: Path) -> None:
    folder = regression(tmp_path / "runs" / "r" / "1")
    plan = json.loads((folder / "plan.json").read_text())
    plan["data"]["private"] = True
    write(folder, "plan.json", plan)
    row = {"id": 1, "label": "a", "predicted": "b", "confidence": 0.9, "text": "secret"}
    write(folder, "evidence/1-mistakes.json", {"split": "test", "rows": [row]})
    assert mistakes(read_run(folder)) == []
    assert "secret" not in page_of(folder).source


def test_phrases_are_written_in_the_language_spoken(run_folder: Path) -> None:
    (one, _) = calibrations(read_run(run_folder))
    with speaking("zh"):
        assert str(one.chart.title) == "阶段 1（audit）的测量"
