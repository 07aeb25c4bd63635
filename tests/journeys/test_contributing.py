"""The part and the stage of CONTRIBUTING.md, run as a reader would run them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Shell = Callable[[str], "subprocess.CompletedProcess[str]"]
Blocks = Callable[[str, str], list[str]]


def example(blocks: Blocks, uses: str, folder: Path) -> dict[str, Any]:
    """Write an example's file and recipe into a folder; return the recipe."""
    sources = blocks("CONTRIBUTING.md", "python")
    recipes = [yaml.safe_load(text) for text in blocks("CONTRIBUTING.md", "yaml")]
    assert len(sources) == len(recipes)
    for source, recipe in zip(sources, recipes, strict=True):
        if recipe["uses"] == uses:
            (folder / uses).write_text(source, encoding="utf-8")
            (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
            return dict(recipe)
    raise AssertionError(f"CONTRIBUTING.md has no example {uses}")


def claims_of(run: Path) -> dict[str, Any]:
    claims = json.loads((run / "claims.json").read_text(encoding="utf-8"))["claims"]
    return {claim["kind"]: claim for claim in claims}


@pytest.mark.parametrize(
    ("uses", "kind"), [("focal.py", "quality.accuracy"), ("round.py", "weights.mantissa_bits")]
)
def test_examples_run_and_verify(
    uses: str, kind: str, blocks: Blocks, shell: Shell, workspace: Path
) -> None:
    recipe = example(blocks, uses, workspace)
    shell(f"assay plan recipe.yaml --allow {uses}")
    shell(f"assay run recipe.yaml --allow {uses} --out run")
    claim = claims_of(workspace / "run")[kind]
    assert claim["status"] == "holds"
    for stage in recipe["stages"]:
        if "round" in stage:
            assert claim["value"] == stage["round"]["bits"]
    verified = json.loads(shell(f"assay verify run --allow {uses} --json").stdout)
    assert verified["ok"] is True
    assert {c["kind"]: c["status"] for c in verified["claims"]}[kind] == "holds"


def test_a_users_file_does_not_run_unless_allowed(
    blocks: Blocks, shell: Shell, workspace: Path
) -> None:
    example(blocks, "focal.py", workspace)
    with pytest.raises(AssertionError, match="allow it with --allow"):
        shell("assay plan recipe.yaml")
