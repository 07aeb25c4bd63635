"""The documentation as a site: strict, whole, in two languages, asking nobody for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import part_pages
from assay import Recipe, registry

KINDS = list(registry.KINDS)


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it; a warning of MkDocs fails the build."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)],
        cwd=root,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_part_has_its_page(language: str, site: Path) -> None:
    here = site if language == "en" else site / "zh"
    for kind in KINDS:
        title = part_pages.KINDS[kind][language][0]
        assert title in (here / "parts" / kind / "index.html").read_text(encoding="utf-8")
        for name in part_pages.ours(kind):
            page = (here / "parts" / kind / f"{name}.html").read_text(encoding="utf-8")
            assert part_pages.WORDS[language]["settings"] in page


def test_every_page_has_both_languages_and_leads_from_one_to_the_other(site: Path) -> None:
    pages = {p.relative_to(site) for p in site.glob("**/*.html")} - {Path("404.html")}
    english = {p for p in pages if p.parts[0] != "zh"}
    assert {Path("zh") / p for p in english} == pages - english
    for page in sorted(english):
        text = (site / page).read_text(encoding="utf-8")
        (other,) = set(re.findall(r'href="([^"]+)" hreflang="zh" class', text))
        assert ((site / page).parent / other).resolve() == (site / "zh" / page).resolve()


def test_nothing_is_asked_of_another_machine(site: Path) -> None:
    asks = re.compile(
        r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//"
        r"|<link\b(?![^>]*rel=[\"']?(?:canonical|alternate))[^>]*\bhref=[\"']?(?:https?:)?//"
    )
    for page in site.glob("**/*.html"):
        assert not asks.findall(page.read_text(encoding="utf-8")), page


def test_both_languages_can_be_searched(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    assert '"lang":["en","zh"]' in index.replace(" ", "")
    assert "\\u200b" in index or "\u200b" in index  # Chinese is cut into words


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_says_what_it_means(kind: str) -> None:
    unsaid = {
        f"{name}.{field}"
        for name, cls in part_pages.ours(kind).items()
        for field in set(cls.model_fields) - set(part_pages.meanings(cls))
    }
    assert not unsaid


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "structure"])
def test_every_example_is_a_recipe_that_uses_the_part(kind: str) -> None:
    for name, cls in part_pages.ours(kind).items():
        page = part_pages.part_page(kind, name, cls, "en")
        (block,) = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        assert name in block
        raw = {"model": "minilm-l6", "data": "reviews", "stages": ["finetune"]}
        Recipe.from_data({**raw, **yaml.safe_load(block)})


def test_what_stands_at_its_default_is_not_written() -> None:
    from assay.config import build_part

    adamw = build_part("step", {"adamw": {"lr": 0.1, "beta1": 0.9, "beta2": 0.95}})
    assert part_pages.settings(adamw) == {"lr": 0.1, "beta2": 0.95}
    tuned = build_part("stage", {"finetune": {"epochs": 1, "objective": "supervised"}})
    assert part_pages.settings(tuned) == {"epochs": 1.0}
    other = build_part("stage", {"finetune": {"parameters": {"last": 2}}})
    assert part_pages.settings(other) == {"parameters": {"last": {"n": 2}}}
    audit = build_part("stage", {"audit": {"quality": {}, "efficiency": {}}})
    assert part_pages.settings(audit) == {"quality": {}, "efficiency": {}}


def test_the_page_of_a_part_says_type_range_default_and_paper() -> None:
    page = part_pages.part_page("step", "adamw", registry.find("step", "adamw"), "en")
    assert "| `lr` | `float` | > 0 | required | base rate. |" in page
    assert (
        "| `beta1` | `float` | ≥ 0, < 1 | `0.9` | decay of the first moment, in [0, 1). |" in page
    )
    assert "[arXiv 1711.05101](https://arxiv.org/abs/1711.05101)" in page
    chinese = part_pages.part_page("step", "adamw", registry.find("step", "adamw"), "zh")
    assert "| `lr` | `float` | > 0 | 必填 | base rate. |" in chinese
    assert "因此为英文" in chinese
