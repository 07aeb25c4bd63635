"""Attacks on the page: the curves, the areas, and both epsilons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assay.report.attacks import attacks
from assay.report.reading import read_run
from assay.report.strings import speaking
from tests.report.conftest import reviews, write
from tests.report.test_page import Node, Page, page_of, sound

CURVES = [
    {
        "attack": "threshold", "fpr": [0.0, 0.01, 0.3, 1.0], "tpr": [0.0, 0.02, 0.45, 1.0],
        "auc": 0.61, "low": 0.58, "high": 0.64, "members": 700, "others": 500,
    },
    {
        "attack": "lira", "fpr": [0.0, 0.0, 0.2, 1.0], "tpr": [0.0, 0.08, 0.5, 1.0],
        "auc": 0.72, "low": 0.69, "high": 0.75, "members": 700, "others": 500,
    },
]  # fmt: skip
CANARIES = {
    "epsilon": 2.25, "delta": 1e-5, "level": 0.95, "canaries": 1000, "guesses": 125,
    "right": 120, "claimed": 8.0, "contradicts": False,
}  # fmt: skip
EVIDENCE = {"split": "test", "curves": CURVES, "canaries": CANARIES}


def evidence(folder: Path, **changes: Any) -> Path:
    reviews(folder)
    write(folder, "evidence/3-privacy.json", {**EVIDENCE, **changes})
    return folder


def canaries(**changes: Any) -> dict[str, Any]:
    return {**CANARIES, **changes}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page_of(evidence(tmp_path_factory.mktemp("attacks") / "runs" / "reviews" / "1"))


def test_areas_and_both_epsilons_are_shown(page: Page) -> None:
    sound(page)
    section = page.root.one("section", id="attacks")
    rows = [[c.text for c in r.children if isinstance(c, Node)] for r in section.all("tr")[1:]]
    assert rows == [
        ["loss threshold", "0.6100.580 to 0.640"],
        ["LiRA", "0.7200.690 to 0.750"],
    ]
    assert [d.attributes["value"] for d in section.all("data")] == ["0.61", "0.72"]
    about = "700 units that were trained on and 500 of the test split that were not."
    assert section.one("caption").text == about
    said = "120 of 125 guesses were right: ε is at least 2.25 at δ = 1e-05, with 95% confidence."
    assert said in section.text
    assert "The passport claims ε = 8.00, which the attack does not contradict." in section.text
    assert "护照声明 ε = 8.00，攻击结果与之不矛盾。" in section.chinese
    assert page.root.one("a", href="#attacks").text == "Attacks"


def test_curves_stand_on_logarithmic_axes(page: Page) -> None:
    english, chinese = page.root.one("section", id="attacks").all("svg")[:2]
    for text in ("0.001", "0.01", "0.1", "loss threshold", "LiRA", "false positive rate"):
        assert text in english.text
    assert "损失阈值" in chinese.chinese


def test_a_contradiction_stands_out(tmp_path: Path) -> None:
    folder = evidence(tmp_path / "r" / "1", canaries=canaries(claimed=1.0, contradicts=True))
    section = page_of(folder).root.one("section", id="attacks")
    assert section.one("b").text == "The passport claims ε = 1.00: that is not true."
    assert "status fails" in [n.attributes.get("class") for n in section.all("span")]


@pytest.mark.parametrize("contradicts", [False, True])
def test_what_was_accounted_for_stands_in_for_a_claim(contradicts: bool, tmp_path: Path) -> None:
    changed = canaries(claimed=None, accounted=0.7, contradicts=contradicts)
    (one,) = attacks(read_run(evidence(tmp_path / "r" / "1", canaries=changed)))
    assert str(one.claimed) == (
        "ε = 0.70 was accounted for this training: that is not true."
        if contradicts
        else "ε = 0.70 was accounted for this training, which the attack does not contradict."
    )
    assert one.contradicts is contradicts


def test_what_shows_nothing_says_so(tmp_path: Path) -> None:
    folder = evidence(
        tmp_path / "r" / "1", canaries=canaries(epsilon=0.0, right=66, claimed=None), curves=[]
    )
    (one,) = attacks(read_run(folder))
    assert one.chart is None
    assert str(one.bound) == (
        "Of 1,000 canaries, 66 of 125 guesses were right: no more than a coin would get."
    )
    assert one.claimed is None
    with speaking("zh"):
        assert "不比抛硬币更准" in str(one.bound)
    sound(page_of(folder))


@pytest.mark.parametrize(
    "changes",
    [
        {"curves": None, "canaries": None},
        {"curves": [None], "canaries": {"epsilon": 1.0}},
        {"curves": [{**CURVES[0], "auc": None}], "canaries": canaries(epsilon="much")},
        {"curves": [{**CURVES[0], "fpr": [0.0, 7.0], "tpr": [0.0, 1.0]}], "canaries": None},
    ],
)
def test_odd_evidence_is_left_out(changes: dict[str, Any], tmp_path: Path) -> None:
    folder = evidence(tmp_path / "r" / "1", **changes)
    assert attacks(read_run(folder)) == []
    sound(page_of(folder))


def test_no_section_without_attacks(tmp_path: Path) -> None:
    reviews(tmp_path / "r" / "1")
    assert page_of(tmp_path / "r" / "1").root.all("section", id="attacks") == []
