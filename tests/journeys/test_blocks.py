"""Every command and code block of the pages is run, or planned where it is a recipe.

A block that cannot be run here carries a marker with the reason, and the few of them are listed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from assay import Recipe

Shell = Callable[[str], "subprocess.CompletedProcess[str]"]
ROOT = Path(__file__).resolve().parents[2]

SERVER = (
    "assay site init hospital-2 --epsilon 3 --delta 1e-5 "
    "--url postgresql+psycopg://owner@db.example/privacy"
)
#: blocks that no test runs: page -> what they begin with, and why
NOT_RUN = {
    ("docs/images.md", "assay data fashion-mnist --fetch"): "downloads a package of the system",
    ("docs/site.md", SERVER): "needs a server",
}
#: pages whose blocks have tests of their own (beside this file)
ELSEWHERE = {"README.md": {"sh", "python"}, "CONTRIBUTING.md": {"yaml", "python"}}

_FENCE = re.compile(
    r"^(?:<!-- not run: (?P<why>[^\n]*?) -->\n+)?```(?P<language>\w*)\n(?P<text>.*?)^```",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, and why it is not run (None: it is)."""

    language: str
    text: str
    why: str | None = None

    @property
    def file(self) -> str | None:
        """The file that its first line, a comment, names: a reader saves it there."""
        found = re.match(r"# ([\w-]+\.(?:yaml|py))\n", self.text)
        return found[1] if found else None


def blocks_of(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [Block(m["language"], m["text"], m["why"]) for m in _FENCE.finditer(text)]


def english() -> list[str]:
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")]
    names = sorted(path.relative_to(ROOT).as_posix() for path in found)
    return [name for name in names if ".zh" not in name]


def chinese() -> list[tuple[str, str]]:
    """(English page, Chinese page)."""
    pairs = [(name, name.removesuffix(".md") + ".zh.md") for name in english()]
    return [(a, b) for a, b in pairs if (ROOT / b).is_file()]


PAGES = [page for page in english() if blocks_of(page)]


def commands(text: str) -> str:
    """A block without comments, which are translated."""
    return re.sub(r"[ ]*#.*$", "", text, flags=re.MULTILINE)


def untranslated(block: Block) -> str:
    """What both languages share: of a listing, what stands before the wide gap of its lines."""
    if block.language == "text":
        return re.sub(r"(?<=\S) {2,}.*$", "", block.text, flags=re.MULTILINE)
    return commands(block.text)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages take for granted: a table, texts, pictures, a finished run."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("desk")
    rows = ["row_number,patient,sex,age,ward,died"]
    for n in range(120):
        age, died = 40 + n * 7 % 50, "yes" if n * 7 % 50 > 30 else "no"
        rows.append(f"{n},p{n // 2},{'mf'[n // 2 % 2]},{age},{'abc'[n % 3]},{died}")
    (folder / "patients.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    words = [f"{'please answer now' if n % 2 else 'thank you'} {n},{n % 2}" for n in range(60)]
    (folder / "tickets.csv").write_text("\n".join(["message,urgent", *words]) + "\n", "utf-8")
    random = np.random.default_rng(0)
    for name in [f"photos/{kind}/{n}.png" for kind in ("cat", "dog") for n in range(20)] + [
        "new/1.png",
        "new/2.png",
    ]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shade = 60 if "cat" in name else 190
        pixels = random.integers(shade, shade + 40, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    recipe: dict[str, Any] = {
        "model": {"name": "mlp", "settings": {"hidden": [4]}},
        "data": "breast_cancer",
        "stages": [{"finetune": {"epochs": 1, "curves": False}}],
    }
    Recipe.from_data(recipe).run(out=folder / "runs/mine/1")
    return folder


@pytest.fixture
def at_desk(desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, as the current folder."""
    here = tmp_path / "desk"
    shutil.copytree(desk, here)
    monkeypatch.chdir(here)
    return here


def test_the_blocks_that_are_not_run_are_these() -> None:
    found = {
        (page, block.text.splitlines()[0].partition("#")[0].strip()): block.why
        for page in PAGES
        for block in blocks_of(page)
        if block.why is not None
    }
    assert found == NOT_RUN


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page: str) -> None:
    known = {"sh", "yaml", "python", "text"}
    assert {block.language for block in blocks_of(page)} <= known


@pytest.mark.parametrize(("page", "other"), chinese(), ids=lambda name: Path(name).name)
def test_both_languages_have_the_same_blocks_and_headings(page: str, other: str) -> None:
    ours, theirs = blocks_of(page), blocks_of(other)
    assert [untranslated(b) for b in ours] == [untranslated(b) for b in theirs]
    assert [b.why is None for b in ours] == [b.why is None for b in theirs]
    texts = [_FENCE.sub("", (ROOT / name).read_text(encoding="utf-8")) for name in (page, other)]
    for mark in (r"^## ", r"^### ", r"^\|"):
        one, two = (len(re.findall(mark, text, re.MULTILINE)) for text in texts)
        assert one == two, mark
    numbers = [sorted(re.findall(r"\d+\.\d+", text)) for text in texts]
    assert numbers[0] == numbers[1]


def recipes(page: str) -> Iterator[Block]:
    for block in blocks_of(page):
        if block.language == "yaml" and "yaml" not in ELSEWHERE.get(page, ()):
            yield block


@pytest.mark.parametrize("page", [page for page in PAGES if list(recipes(page))])
def test_every_recipe_can_be_planned(page: str, at_desk: Path) -> None:
    """What a fragment leaves out is filled in: a model, data, a stage."""
    for block in blocks_of(page):
        if block.file is not None:
            (at_desk / block.file).write_text(block.text, encoding="utf-8")
    allowed = list(at_desk.glob("*.py"))
    for block in recipes(page):
        raw = yaml.safe_load(block.text)
        audit = {"audit": {"quality": {"folds": 5}, "efficiency": {}}}
        whole = {"model": "minilm-l6", "data": "reviews", "stages": ["finetune", audit], **raw}
        tabular = isinstance(raw.get("data"), dict) and "patients" in str(raw["data"])
        if "model" not in raw and tabular:
            whole["model"] = "mlp"
        if "data" not in raw and "mine" in str(raw.get("model")):
            whole["data"] = "breast_cancer"
        assert Recipe.from_data(whole, allow=allowed).plan().lines(), block.text


@pytest.fixture
def desk_shell(at_desk: Path, shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """The shell, where `make` only says what it would do."""
    folder = tmp_path_factory.mktemp("make")
    make = shutil.which("make")
    assert make is not None
    command = folder / "make"
    command.write_text(f'#!/bin/sh\nexec "{make}" -C "{ROOT}" --dry-run "$@" >/dev/null\n')
    command.chmod(0o755)

    def run(text: str) -> subprocess.CompletedProcess[str]:
        return shell(f'set -e\nPATH="{folder}:$PATH"\ncd "{at_desk}"\n{text}')

    return run


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_of_the_pages_exist(page: str, desk_shell: Shell) -> None:
    for block in blocks_of(page):
        for line in commands(block.text).splitlines():
            if block.language == "sh" and line.startswith("make "):
                desk_shell(line)


@pytest.mark.long
@pytest.mark.parametrize("page", [p for p in PAGES if p not in ELSEWHERE])
def test_every_command_and_program_runs(page: str, at_desk: Path, desk_shell: Shell) -> None:
    """As a reader would, from top to bottom in one folder."""
    if page == "docs/start.md":  # it makes that run itself
        shutil.rmtree(at_desk / "runs")
    for block in blocks_of(page):
        if block.file is not None:
            (at_desk / block.file).write_text(block.text, encoding="utf-8")
        if block.why is not None or block.language not in ("sh", "python"):
            continue
        if block.language == "sh":
            desk_shell(block.text)
            continue
        done = subprocess.run(
            [sys.executable, *(["-c", block.text] if block.file is None else [block.file])],
            cwd=at_desk,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block.text}\n{done.stderr}"
