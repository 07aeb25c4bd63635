"""What the docs say of recipes and parts is what the registry has."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from assay import Recipe, registry

Blocks = Callable[[str, str], list[str]]


def documented(page: Path) -> set[str]:
    """Words in backticks."""
    return set(re.findall(r"`([a-z0-9_.]+)`", page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("kind", ["stage", "term", "parameters", "step", "place", "audit"])
def test_every_part_is_documented(kind: str, root: Path) -> None:
    ours = {
        name
        for name, part in registry.parts(kind).items()
        if part.__module__.startswith("assay.")  # tests register parts too
    }
    assert ours <= documented(root / "docs" / "recipes.md")


@pytest.mark.parametrize("page", ["docs/index.md", "docs/recipes.md", "docs/claims.md"])
def test_recipes_in_the_docs_are_recipes(page: str, blocks: Blocks) -> None:
    found = [yaml.safe_load(text) for text in blocks(page, "yaml")]
    assert found
    for raw in found:
        whole = {"model": "minilm-l6", "data": "reviews", "stages": ["finetune"], **raw}
        Recipe.from_data(whole)


def test_planned_recipes_in_the_docs_can_be_planned(blocks: Blocks) -> None:
    planned = 0
    for page in ("docs/index.md", "docs/recipes.md"):
        for raw in map(yaml.safe_load, blocks(page, "yaml")):
            if {"model", "data", "stages"} <= set(raw):
                assert Recipe.from_data(raw).plan().lines()
                planned += 1
    assert planned == 2


@pytest.mark.parametrize("name", ["reviews", "credit"])
def test_ready_recipes_can_be_planned(name: str, root: Path) -> None:
    recipe = Recipe.load(root / "recipes" / f"{name}.yaml")
    assert recipe.name == name
    assert recipe.require
    assert recipe.plan().lines()


def test_settings_in_the_docs_on_data_are_settings(blocks: Blocks) -> None:
    from assay.data.config import DataConfig

    raws = [yaml.safe_load(text) for text in blocks("docs/bring-your-own.md", "yaml")]
    (data,) = [raw["data"] for raw in raws if "data" in raw]
    assert DataConfig(**data).label == "died"
    (model,) = [raw["model"] for raw in raws if "model" in raw]
    assert set(model) <= set(Recipe.model_fields["model"].annotation.model_fields)  # type: ignore[union-attr]
