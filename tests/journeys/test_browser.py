"""The pages in Debian's Chromium: what a reader sees, hears, reaches by keyboard and prints."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.report.conftest import full

from assay.cli import invoke
from assay.report.numbers import shown

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.long

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
RECIPE = """
name: {name}
model: {{name: mlp, settings: {{hidden: [16]}}}}
data: {data}
seed: 0
stages:
- finetune: {{epochs: {epochs}}}
- audit: {{quality: {{bootstrap: 50}}}}
- finetune: {{epochs: 1}}
- audit: {{quality: {{bootstrap: 50}}}}
require: {{quality.accuracy: ">= 0.5"}}
"""
PAGES = ("digits", "cancer", "compared", "full")
LANGUAGES = {"en": "en", "zh": "zh-Hans"}
DARK = {"light": False, "dark": True}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Page -> its file: reports of small real runs, their comparison, a report of everything."""
    folder = tmp_path_factory.mktemp("pages")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for name, data, epochs in (
            ("digits", "digits", 4),
            ("cancer", "breast_cancer", 2),
            ("longer", "breast_cancer", 6),
        ):
            text = RECIPE.format(name=name, data=data, epochs=epochs)
            Path(f"{name}.yaml").write_text(text, encoding="utf-8")
            assert invoke(["run", f"{name}.yaml", "--threads", "1"]) == 0
        both = ["runs/cancer/1", "runs/longer/1"]
        assert invoke(["compare", *both, "--html", "compared.html", "--threads", "1"]) == 0
    finally:
        os.chdir(before)
    return {
        "digits": folder / "runs/digits/1/report.html",
        "cancer": folder / "runs/cancer/1/report.html",
        "compared": folder / "compared.html",
        "full": full(folder / "runs/full/1") / "report.html",
    }


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    from playwright.sync_api import sync_playwright

    assert Path(CHROMIUM).exists(), f"{CHROMIUM} is missing: apt-get install chromium"
    with sync_playwright() as play:
        made = play.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=CHROMIUM,
            args=ARGUMENTS,
            headless=True,
            locale="en-GB",
        )
        yield made
        made.close()


Open = Callable[..., "Page"]


@pytest.fixture
def opened(context: BrowserContext, pages: dict[str, Path]) -> Iterator[Open]:
    """Open a page; at the end nothing may have been asked for or complained about."""
    page = context.new_page()
    page.set_default_timeout(10_000)
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))

    def go(name: str, width: int = 1200, language: str = "en", theme: str = "light") -> Page:
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(pages[name].as_uri())
        page.check(f"#language-{language}")
        page.check(f"#theme-{theme}")
        return page

    yield go
    page.close()
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
    assert complaints == []


def background(page: Page) -> tuple[int, ...]:
    colour = str(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    return tuple(map(int, re.findall(r"\d+", colour)))


@pytest.mark.parametrize("theme", DARK)
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", [1200, 400])
@pytest.mark.parametrize("name", PAGES)
def test_whole_and_accessible(
    name: str, width: int, language: str, theme: str, opened: Open
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = opened(name, width, language, theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (sum(background(page)) < 150) is DARK[theme]
    other = next(lang for key, lang in LANGUAGES.items() if key != language)
    assert page.locator(f"main [lang='{LANGUAGES[language]}']:visible").count() > 20
    assert page.locator(f"main [lang='{other}']:visible").count() == 0
    assert page.locator("img").evaluate_all("all => all.every(one => one.naturalWidth > 0)")
    found = Axe().run(page).response["violations"]
    grave = [
        (violation["id"], [node["target"] for node in violation["nodes"]][:5])
        for violation in found
        if violation["impact"] in ("serious", "critical")
    ]
    assert grave == []


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", [1200, 400])
@pytest.mark.parametrize("name", ["digits", "cancer", "full"])
def test_numbers_are_those_of_the_claims(
    name: str, width: int, language: str, opened: Open, pages: dict[str, Path]
) -> None:
    claims = json.loads((pages[name].parent / "claims.json").read_text(encoding="utf-8"))["claims"]
    page = opened(name, width, language)
    rows = page.locator("#claims tr.track").evaluate_all(
        "all => all.map(row => [row.dataset.kind, row.querySelector('.now data').value,"
        " row.querySelector('.now data').innerText])"
    )
    assert claims
    assert sorted(map(tuple, rows)) == sorted(
        (c["kind"], str(c["value"]), shown(c["value"], c["unit"], c["kind"])) for c in claims
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_comparison_shows_what_both_runs_claim(
    language: str, opened: Open, pages: dict[str, Path]
) -> None:
    page = opened("compared", 1200, language)
    for column, name in ((0, "cancer"), (1, "longer")):
        run = pages["compared"].parent / f"runs/{name}/1"
        claims: list[dict[str, Any]] = json.loads((run / "claims.json").read_text())["claims"]
        rows = page.locator("#both tbody tr").evaluate_all(
            "(all, column) => all.map(row => [row.dataset.kind,"
            " row.querySelectorAll('td')[column].querySelector('data').innerText])",
            column,
        )
        assert sorted(map(tuple, rows)) == sorted(
            (c["kind"], shown(c["value"], c["unit"], c["kind"])) for c in claims
        )


@pytest.mark.parametrize("name", ["digits", "compared"])
def test_switches_by_keyboard_and_by_name(name: str, opened: Open) -> None:
    page = opened(name)
    page.reload()
    english = page.locator("h1").inner_text()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "language-en"
    page.keyboard.press("ArrowRight")
    assert page.locator("#language-zh").is_checked()
    assert page.locator("h1").inner_text() != english
    assert re.search("[\u4e00-\u9fff]", page.locator("h1").inner_text())
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert page.locator("#theme-light").is_checked()
    page.keyboard.press("ArrowRight")
    assert page.locator("#theme-dark").is_checked()
    assert sum(background(page)) < 150
    # what a screen reader is told, in the language that is shown
    for group, radios in (("语言", ["English", "中文"]), ("主题", ["自动", "浅色", "深色"])):
        box = page.get_by_role("group", name=group)
        for radio in radios:
            assert box.get_by_role("radio", name=radio, exact=True).count() == 1
    outline = page.locator("#theme-dark + label").evaluate("one => getComputedStyle(one).outline")
    assert "solid" in outline


@pytest.mark.parametrize("name", ["digits", "compared"])
def test_the_reader_s_theme_is_followed(name: str, opened: Open) -> None:
    page = opened(name, theme="auto")
    page.emulate_media(color_scheme="dark")
    assert sum(background(page)) < 150
    page.emulate_media(color_scheme="light")
    assert background(page) == (255, 255, 255)
    page.check("#theme-dark")
    assert sum(background(page)) < 150


@pytest.mark.parametrize("name", ["digits", "compared"])
def test_prints_light_in_the_language_shown(name: str, opened: Open, tmp_path: Path) -> None:
    page = opened(name, language="zh", theme="dark")
    page.emulate_media(media="print")
    assert background(page) == (255, 255, 255)
    assert re.search("[\u4e00-\u9fff]", page.locator("h1").inner_text())
    assert page.locator("fieldset:visible").count() == 0
    page.pdf(path=tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    page.emulate_media(media="screen")
