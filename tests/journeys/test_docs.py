"""What the docs say of recipes and parts is what the registry has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from assay import Recipe, registry

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))


def documented(page: Path) -> set[str]:
    """Words in backticks."""
    return set(re.findall(r"`([a-z0-9_.-]+)`", page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", ["docs/recipes.md", "docs/recipes.zh.md"])
@pytest.mark.parametrize(
    "kind",
    ["stage", "term", "parameters", "step", "place", "augmentation", "audit", "architecture"],
)
def test_every_part_is_documented(kind: str, page: str) -> None:
    ours = {
        name
        for name, part in registry.parts(kind).items()
        if part.__module__.startswith("assay.")  # tests register parts too
    }
    assert ours <= documented(ROOT / page)


@pytest.mark.parametrize("name", RECIPES)
def test_ready_recipes_can_be_planned(name: str) -> None:
    recipe = Recipe.load(ROOT / "recipes" / f"{name}.yaml")
    assert recipe.name == name
    assert recipe.require
    if not any("teacher" in type(stage).model_fields for stage in recipe.stages):
        assert recipe.plan().lines()


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("page", ["docs/recipes.md", "README.md"])
def test_a_ready_recipe_is_shown_with_what_its_file_says_was_measured(name: str, page: str) -> None:
    """The intervals of the row stand in the recipe's header, where it gives any."""
    header = (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    comments = " ".join(
        line.removeprefix("#").strip() for line in header.splitlines() if line.startswith("#")
    )
    (row,) = [
        line
        for line in (ROOT / page).read_text(encoding="utf-8").splitlines()
        if line.startswith("|") and re.search(rf"[`(/]{name}\.yaml", line)
    ]
    measured = set(re.findall(r"\[\d[\d.]*, \d[\d.]*\]", comments))
    shown = set(re.findall(r"\[\d[\d.]*, \d[\d.]*\]", row))
    if measured:
        assert shown
        assert shown <= measured
