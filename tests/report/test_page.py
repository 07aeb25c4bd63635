"""The page: true to the claims, self-contained, whole whatever is missing."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from assay.errors import ArtefactError, LoadError
from assay.report.page import write_report
from tests.report.conftest import claim, curves, regression, reviews, write


@dataclass
class Node:
    """An element of the page."""

    tag: str
    attributes: dict[str, str]
    children: list[Node | str] = field(default_factory=list)

    def all(self, tag: str, **wanted: str) -> list[Node]:
        found = []
        for child in self.children:
            if isinstance(child, Node):
                if child.tag == tag and all(
                    child.attributes.get(k) == v for k, v in wanted.items()
                ):
                    found.append(child)
                found += child.all(tag, **wanted)
        return found

    def one(self, tag: str, **wanted: str) -> Node:
        (found,) = self.all(tag, **wanted)
        return found

    def said(self, lang: str) -> str:
        """The text that a page switched to `lang` shows."""
        parts = (c if isinstance(c, str) else c.said(lang) for c in self.children if shows(c, lang))
        return "".join(parts)

    @property
    def text(self) -> str:
        return " ".join(self.said("en").split())

    @property
    def chinese(self) -> str:
        return " ".join(self.said("zh-Hans").split())


def shows(child: Node | str, lang: str) -> bool:
    if isinstance(child, str):
        return True
    classes = child.attributes.get("class", "").split()
    return "label" not in classes and (
        "own" in classes or child.attributes.get("lang", lang) == lang
    )


class Page(HTMLParser):
    """Parses a page; fails where an element is not closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.root = Node("", {})
        self.open = [self.root]
        self.feed(source)
        assert self.open == [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(node)
        if tag not in ("meta", "input", "img"):
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def page_of(folder: Path) -> Page:
    path = write_report(folder)
    assert path == folder / "report.html"
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(reviews_run: Path) -> Page:
    return page_of(reviews_run)


def claims_of(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "claims.json").read_text())["claims"]
    return found


def sound(page: Page) -> None:
    """What is true of every page."""
    source, root = page.source, page.root
    ids = [
        n.attributes["id"]
        for tag in set(re.findall(r"<(\w+)", source.lower()))
        for n in root.all(tag)
        if "id" in n.attributes
    ]
    assert len(ids) == len(set(ids))
    for name in re.findall(r'aria-labelledby="([^"]+)"', source):
        assert set(name.split()) <= set(ids)
    for name in re.findall(r'(?:href="#|url\(#)([^")]+)', source):
        assert name in ids
    assert not root.all("script")
    assert all(i.attributes["src"].startswith("data:image/png;base64,") for i in root.all("img"))
    assert not root.all("link")
    assert not re.search(r"""(?:srcset|action|data)\s*=\s*["']""", source)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", source)
    assert "default-src 'none'" in source
    assert root.one("html").attributes["lang"] == "en"
    assert len(root.all("h1")) == 1
    for chart in root.all("svg", role="img"):
        assert chart.one("title").text
        assert chart.one("desc").text
    for figure in root.all("figure"):
        assert figure.one("figcaption").text


def test_the_answer_comes_first(page: Page) -> None:
    sections = [node.attributes.get("id") for node in page.root.one("main").all("section")]
    assert sections == [
        "answer",
        "required",
        "numbers",
        "claims",
        "learning",
        "errors",
        "cost",
        "data",
        "recipe",
        "environment",
        "verify",
    ]
    answer = page.root.one("section", id="answer")
    assert answer.attributes["class"] == "answer good"
    assert answer.one("h1").text == "All 3 required claims hold."
    sentences = [p.text for p in answer.one("div", **{"class": "verdict"}).all("p")]
    assert sentences == [
        "Accuracy is 85.7% (95% interval 83.5 to 87.8%) on food-reviews, test split, 1,000 rows.",
        "That is 5.2 points better than TF-IDF + logistic (80.5%), the best automatic baseline.",
        "Of 17 claims in all, 12 hold, 5 are void.",
    ]
    facts = {div.one("dt").text: div.one("dd").text for div in answer.one("dl").all("div")}
    assert facts == {
        "Model": "minilm-l6, 22.7 M parameters",
        "Data": "food-reviews, 5,000 rows",
        "Task": "text-classification",
        "Time": "5 min 18 s",
        "Stages": "finetune → audit → finetune → audit → export",
    }


def test_the_page_is_self_contained_and_sound(page: Page) -> None:
    sound(page)
    for link in page.root.one("nav").all("a"):
        assert len(page.root.all("section", id=link.attributes["href"][1:])) == 1


def test_values_are_those_of_the_claims(page: Page, reviews_run: Path) -> None:
    rows = page.root.one("section", id="claims").all("tr")[1:]
    shown = [
        (
            row.attributes["data-kind"],
            row.all("data")[0].attributes["value"],
            row.all("data")[0].text,
            row.attributes["class"].split()[1],
        )
        for row in rows
    ]
    assert sorted((kind, value, status) for kind, value, _, status in shown) == sorted(
        (c["kind"], str(c["value"]), c["status"]) for c in claims_of(reviews_run)
    )
    texts = {(kind, value): text for kind, value, text, _ in shown}
    assert texts["quality.accuracy", "0.857"] == "85.7%"
    assert texts["quality.auroc", "0.9211"] == "0.921"
    assert texts["size.parameters", "22713986"] == "22.7 M"
    assert texts["size.bytes", "91120331"] == "91.1 MB"
    assert texts["latency.p50_ms", "21.37"] == "21.4 ms"
    assert texts["agreement.top1", "1.0"] == "100.0%"


def test_required_claims_show_bound_value_interval_and_n(page: Page) -> None:
    rows = [
        [cell.text for cell in row.children if isinstance(cell, Node)]
        for row in page.root.one("section", id="required").all("tr")[1:]
    ]
    for row, found in zip(
        [
            [
                "Accuracy",
                "85.7%",
                "83.5 to 87.8% · n = 1,000",
                "at least 84%",
                "holds",
                "1.7 points",
            ],
            ["Size on disk", "91.1 MB", "", "at most 100 MB", "holds", "8.88 MB to spare"],
            ["Latency, median", "21.4 ms", "", "at most 50 ms", "holds", "28.6 ms to spare"],
        ],
        rows,
        strict=True,
    ):
        assert all(part in " | ".join(found) for part in row), found


def test_headline_numbers_stand_beside_the_baselines(page: Page) -> None:
    table = page.root.one("section", id="numbers").one("table")
    cells = [[c.text for c in row.children if isinstance(c, Node)] for row in table.all("tr")]
    assert cells[0] == [
        "Metric",
        "this model",
        "95% interval",
        "TF-IDF + logistic",
        "most common class",
    ]
    assert cells[1] == ["Accuracy", "85.7%", "83.5 to 87.8%", "80.5%", "65.8%"]
    assert cells[2] == ["AUROC", "0.921", "0.899 to 0.942", "0.871", "0.500"]
    wide = page.root.one("section", id="numbers").all("svg")[0]
    for text in ("85.7%", "80.5%", "65.8%", "0.921", "required", "this model"):
        assert text in [t.text for t in wide.all("text")]


def test_void_claims_are_struck_through_with_the_stage_that_voided_them(page: Page) -> None:
    for row in page.root.one("section", id="claims").all("tr")[1:]:
        void = "void" in row.attributes["class"].split()
        assert bool(row.all("td")[-1].all("s")) is void
        assert ("voided by stage" in row.all("td")[-1].text) is void


def test_every_reading_and_disclosure_is_listed(page: Page) -> None:
    data = page.root.one("section", id="data")
    reads = [[c.text for c in r.children if isinstance(c, Node)] for r in data.all("tr")[5:]]
    assert reads[0] == ["0 finetune", "train", "weights", "gradients", "influence"]
    assert reads[2] == [
        "1 audit",
        "test",
        "claims, this page",
        "quality of the finished model",
        "disclosure",
    ]
    assert len(reads) == 7
    assert "test rows at stage 1 (audit), test rows at stage 3 (audit)" in data.text
    splits = [[c.text for c in r.children if isinstance(c, Node)] for r in data.all("tr")[1:4]]
    assert splits[0] == ["train", "3,600", "72.0%"]
    assert splits[2] == ["test", "1,000", "20.0%"]


def test_the_rest_is_there(page: Page) -> None:
    text = page.root.one("main").text
    for part in (
        "assay verify runs/reviews/3",
        "Passport: 37 records, head 9b3a9b3a9b3a9b3a",
        "The most common mistake: other taken for great, 77 times.",
        "Area 0.921.",
        "one_cycle: {warmup: 0.1}",
        "Measured on Intel Xeon @ 2.90 GHz with 2 threads",
        "Loss, stage 0 (finetune)",
        "99.8%",
        "The data that the base model was pretrained on",
    ):
        assert part in text, part


def test_the_same_files_give_the_same_bytes(page: Page, tmp_path: Path) -> None:
    again = write_report(reviews(tmp_path / "runs" / "reviews" / "3"))
    assert again.read_bytes() == page.source.encode()
    assert [p.name for p in again.parent.iterdir() if p.name.startswith(".")] == []


def test_a_missed_requirement_is_said_first_and_by_how_much(
    make_reviews: Callable[..., Path],
) -> None:
    page = page_of(make_reviews(ok=False))
    answer = page.root.one("section", id="answer")
    assert answer.attributes["class"] == "answer bad"
    assert answer.one("h1").text == "1 of 3 required claims does not hold."
    assert "Accuracy is 83.99%, 0.01 points too low: at least 84% was required." in answer.text
    assert "84.0%" not in page.root.one("main").text.replace("84.0% (", "")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": "void"}, "is void since stage 2 and was not measured again"),
        ({"status": "fails"}, "was claimed as 84.8%, but does not hold"),
        ({"status": "unverifiable"}, "cannot be checked here"),
        (
            {},
            "is 84.8%, but the worse end of its interval is 81.0%, where at least 84% was required",
        ),
        (None, "Accuracy was required, but nothing measured it"),
    ],
)
def test_why_a_required_claim_does_not_hold(
    reviews_run: Path, tmp_path: Path, change: dict[str, Any] | None, words: str
) -> None:
    folder = tmp_path / "1"
    valid = next(c for c in claims_of(reviews_run) if c["split"] == "valid")
    write(folder, "model/claims.jsonl", (reviews_run / "model/claims.jsonl").read_text())
    claims = [] if change is None else [valid | {"status": "holds"} | change]
    value = None if change is None or change.get("status") == "void" else 0.8475
    require = {
        "kind": "quality.accuracy",
        "bound": ">= 0.84",
        "value": value,
        "ok": False,
        "miss": None,
        "where": "",
    }
    write(folder, "claims.json", {"ok": False, "claims": claims, "require": [require]})
    page = page_of(folder)
    sound(page)
    assert page.root.one("h1").text == "The required claim does not hold."
    assert words in page.root.one("section", id="answer").text


def test_a_void_requirement_without_a_passport(regression_run: Path) -> None:
    row = claim("quality.rmse", 12843.7, "label", 0, status="void")
    require = {"kind": "quality.rmse", "bound": "<= 13000", "value": None, "ok": False}
    write(regression_run, "claims.json", {"ok": False, "claims": [row], "require": [require]})
    write(regression_run, "plan.json", {})
    page = page_of(regression_run)
    words = "RMSE was 12,844, but a later stage made it void and it was not measured again."
    assert words in page.root.one("section", id="answer").text
    assert page.root.one("section", id="required").one("s").text == "12,844"


def test_without_requirements_nothing_is_called_good(reviews_run: Path, tmp_path: Path) -> None:
    folder, claims = tmp_path / "1", claims_of(reviews_run)
    write(folder, "claims.json", {"ok": True, "claims": claims, "require": []})
    page = page_of(folder)
    assert page.root.one("h1").text == "Nothing was required of this model."
    assert not page.root.all("section", id="required")
    failing = [c | {"status": "fails"} for c in claims[:2]]
    write(folder, "claims.json", {"ok": False, "claims": failing})
    assert page_of(folder).root.one("h1").text == "2 claims of this model fail."


def test_a_regression(regression_run: Path) -> None:
    page = page_of(regression_run)
    sound(page)
    text = page.root.one("main").text
    assert "RMSE is 12,844 (95% interval 12,110 to 13,602) on hmda, test split" in text
    assert "53.70 worse than gradient boosting (12,790), the best automatic baseline, but" in text
    assert "476 privacy units" in text
    assert "All 4 claims of this run hold." in text
    assert "Predictions" in text
    assert "Confusion" not in text
    assert "156.3 to spare" in text


@pytest.mark.parametrize(("private", "mode"), [(True, 0o600), (False, 0o644)])
def test_a_report_of_private_data_is_for_its_owner_only(
    tmp_path: Path, private: bool, mode: int
) -> None:
    write(tmp_path / "1", "plan.json", {"data": {"name": "hmda", "private": private}})
    before = os.umask(0o022)
    try:
        assert stat.S_IMODE(write_report(tmp_path / "1").stat().st_mode) == mode
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    "keep",
    [
        ["recipe.yaml"],
        ["plan.json"],
        ["claims.json"],
        ["environment.json"],
        ["metrics.jsonl"],
        ["model/claims.jsonl"],
        ["claims.json", "evidence/3-quality.json"],
        ["recipe.yaml", "metrics.jsonl", "timings.jsonl"],
    ],
)
def test_whatever_is_missing_is_left_out(
    reviews_run: Path, tmp_path: Path, keep: list[str]
) -> None:
    for name in keep:
        write(tmp_path / "7", name, (reviews_run / name).read_text(encoding="utf-8"))
    page = page_of(tmp_path / "7")
    sound(page)
    assert "assay verify 7" in page.root.one("section", id="verify").text
    if keep == ["recipe.yaml"]:
        assert page.root.one("h1").text == "Nothing was measured."
        assert page.root.one("p", **{"class": "run"}).text == "reviews run 7"


EVIL = "<script>alert(1)</script>\"'&{{ 7*7 }}{% raw %}]]>"


def test_hostile_names_are_only_names(tmp_path: Path) -> None:
    folder = tmp_path / "1"
    write(folder, "recipe.yaml", f"name: 'x{EVIL.replace(chr(39), '')}'\n# </code>{EVIL}\n")
    write(
        folder, "environment.json", {EVIL: EVIL, "versions": {f"{EVIL}{i}": EVIL for i in range(9)}}
    )
    write(
        folder,
        "plan.json",
        {
            "model": {"name": EVIL, "pretrained": True},
            "data": {
                "name": EVIL,
                "label": EVIL,
                "sensitive": [EVIL],
                "license": EVIL,
                "unit": EVIL,
                "split_rows": {EVIL: 3},
            },
            "task": EVIL,
            "stages": [
                {
                    "name": EVIL,
                    "moves": EVIL,
                    "adds": [EVIL],
                    "notes": [EVIL],
                    "used": {EVIL: EVIL},
                    "reads": [{"split": EVIL, "influences": [EVIL], "why": EVIL}],
                }
            ],
        },
    )
    write(
        folder,
        "metrics.jsonl",
        [{"stage": 0, "step": i, "split": EVIL, "loss": 1.0 / i} for i in (1, 2, 3)],
    )
    write(
        folder,
        "evidence/0-quality.json",
        {
            "confusion": {"labels": [EVIL, "b"], "matrix": [[1, 2], [3, 4]]},
            "mistakes": [{"id": EVIL, "label": EVIL, "prediction": EVIL, "probability": 0.9}],
            "baselines": [{"name": EVIL, "metrics": {"accuracy": 0.1}}],
        },
    )
    rows = [
        claim(
            "quality.accuracy",
            0.5,
            "fraction",
            0,
            dataset=EVIL,
            split=EVIL,
            n=10,
            conditions={EVIL: EVIL},
            interval=[0.4, 0.6],
        ),
        claim("size.odd", EVIL, EVIL, 0, status=EVIL, why=EVIL),
        claim(
            "latency.p50_ms", 3.0, "ms", 0, conditions={"machine": EVIL}, status="fails", why=EVIL
        ),
    ]
    require = [
        {"kind": "quality.accuracy", "bound": EVIL, "value": 0.5, "ok": False, "where": EVIL}
    ]
    write(folder, "claims.json", {"ok": False, "claims": rows, "require": require})
    page = page_of(folder)
    assert not page.root.all("script")
    assert "<script" not in page.source
    assert "49" not in page.root.one("main").text
    sound(page)


def test_very_long_names_and_many_of_everything(tmp_path: Path) -> None:
    folder, long = tmp_path / "1", "a-very-long-name" * 40
    rows = [
        claim(f"fairness.gap_{i}", i / 100, "fraction", i % 9, dataset=long, split=long, n=i)
        for i in range(90)
    ]
    write(folder, "plan.json", {"stages": [{"name": long, "keeps": ["*"]} for _ in range(9)]})
    write(folder, "claims.json", {"ok": True, "claims": rows})
    matrix = [[(i * j) % 7 + 90 * (i == j) for j in range(300)] for i in range(300)]
    labels = [f"{long} {i}" for i in range(300)]
    write(folder, "evidence/0-quality.json", {"confusion": {"labels": labels, "matrix": matrix}})
    page = page_of(folder)
    sound(page)
    claims = page.root.one("section", id="claims")
    assert len(claims.one("details").all("tr")) == 1 + 50
    errors = page.root.one("section", id="errors")
    assert "The 11 largest of 300 classes; the rest stand under “other 289”." in errors.text
    counts = [t.text for t in errors.all("svg")[0].all("text")]
    total = sum(int(t.replace(",", "")) for t in counts if re.fullmatch(r"[\d,]+", t))
    assert total == sum(map(sum, matrix))


def test_numbers_that_are_none_and_odd_shapes_are_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "1"
    write(
        folder,
        "claims.json",
        {
            "claims": [
                claim("quality.accuracy", None, "fraction", 0),
                claim("quality.auroc", "n/a", "", 0),
                claim("quality.rmse", 1.5, "label", 0, interval=[None, 2]),
                {"kind": "size.bytes"},
                7,
            ],
            "require": [
                {"kind": "quality.auroc", "bound": ">= 1", "value": "n/a", "ok": False},
                {},
                "x",
            ],
        },
    )
    write(
        folder,
        "evidence/0-quality.json",
        {
            "confusion": {"labels": ["a", "b"], "matrix": [[1, 2]]},
            "curve_roc": [[0, 0], [2, 1], "x"],
            "baselines": [{"name": None, "metrics": {"rmse": None}}, 3],
            "reliability": None,
            "scatter": [[1], [2, None]],
            "mistakes": [None],
        },
    )
    write(
        folder,
        "metrics.jsonl",
        [
            {"stage": 0, "step": 1, "loss": None},
            {"step": 2},
            {"stage": None, "loss": 1},
            {"stage": 0, "step": 3, "loss": "x"},
            *curves()[:1],
        ],
    )
    write(folder, "plan.json", {"stages": [{"reads": [{}, 3]}, {}], "data": [], "model": 3})
    sound(page_of(folder))


def test_many_training_stages(tmp_path: Path) -> None:
    lines = [
        {"stage": s, "epoch": e, "split": "train", "loss": s + e} for s in range(9) for e in (1, 2)
    ]
    write(tmp_path / "1", "metrics.jsonl", lines)
    learning = page_of(tmp_path / "1").root.one("section", id="learning")
    assert len(learning.all("figure")) == 6
    assert "3 more training stages are in metrics.jsonl." in learning.text


def test_text_that_no_file_can_hold_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "1", "environment.json", '{"platform": "a\\ud800b"}')
    assert "a?b" in page_of(tmp_path / "1").root.text


def test_refusals_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="no such run folder"):
        write_report(tmp_path / "absent")
    folder = regression(tmp_path / "1")
    write(folder, "claims.json", "{")
    with pytest.raises(ArtefactError, match="not valid JSON"):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_importing_the_report_imports_nothing_heavy() -> None:
    code = (
        "import sys, assay.report.page, assay.report.card\n"
        "heavy = {'matplotlib', 'jinja2', 'numpy', 'markupsafe', 'torch', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2] / "src")},
    )
    assert done.stdout.strip() == "[]"
