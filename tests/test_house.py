"""The house: what the tree itself must be, whatever the code in it does."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from assay import __version__, errors

ROOT = Path(__file__).resolve().parent.parent

#: files past 400 lines and functions past 60, each with its reason
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}

#: what the federation engine of a later extra accepts: pins outside would lock it out
FEDERATION = {
    "cryptography": "<51",
    "numpy": "<3",
    "packaging": "<26",
    "protobuf": ">=5.28,<7",
    "rich": "<15",
    "typer": "<0.21",
}


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]  # type: ignore[no-any-return]


def requirements() -> list[Requirement]:
    """Everything the package or one of its extras asks for, itself excepted."""
    table = project()
    lines = list(table["dependencies"])  # type: ignore[call-overload]
    for extra in table["optional-dependencies"].values():  # type: ignore[attr-defined]
        lines += extra
    return [r for r in map(Requirement, lines) if r.name != "assay"]


def pins() -> dict[str, Version]:
    found: dict[str, Version] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9a-z.]+)", line).groups()  # type: ignore[union-attr]
            found[canonicalize_name(name)] = Version(version)
    return found


def python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).glob("**/*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_one_version_everywhere() -> None:
    log = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## ([0-9][^ \n]*)", log, re.MULTILINE)
    assert newest is not None
    assert project()["version"] == __version__ == newest.group(1)


def test_every_dependency_has_a_floor() -> None:
    floors = {">=", "=="}
    bare = [str(r) for r in requirements() if not floors & {s.operator for s in r.specifier}]
    assert not bare, f"pip 'succeeds' with ancient versions of: {bare}"


def test_pins_cover_and_satisfy_every_requirement() -> None:
    known = pins()
    wrong = [
        str(r)
        for r in requirements()
        if not r.specifier.contains(known.get(canonicalize_name(r.name), Version("0")))
    ]
    assert not wrong, f"constraints.txt does not satisfy: {wrong}"


@pytest.mark.parametrize(("name", "bound"), FEDERATION.items())
def test_pins_leave_room_for_federation(name: str, bound: str) -> None:
    assert Requirement(f"{name}{bound}").specifier.contains(pins()[name])


def test_files_are_short() -> None:
    lengths = {
        relative(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in python_files("src", "benchmarks")
    }
    long = {name: n for name, n in lengths.items() if n > 400 and name not in LONG_FILES}
    assert not long, f"split these, or give the reason in LONG_FILES: {long}"


def body_length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    whole = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is not None:
        whole -= (first.end_lineno or first.lineno) - first.lineno + 1
    return whole


def test_functions_are_short() -> None:
    long = {}
    for path in python_files("src", "benchmarks"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{relative(path)}::{node.name}"
                if body_length(node) > 60 and name not in LONG_FUNCTIONS:
                    long[name] = body_length(node)
    assert not long, f"split these, or give the reason in LONG_FUNCTIONS: {long}"


def test_nothing_is_unfinished() -> None:
    # joined, so that this file does not find itself
    words = [r"\bNotImplemented" + "Error", "TO" + "DO", "FIX" + "ME", "X" * 3]
    words.append("pragma: no " + "cover")
    marks = re.compile("|".join([*words, r"\b" + "x" + r"fail\b"]))
    found = [
        f"{relative(path)}:{number}: {line.strip()}"
        for path in python_files("src", "tests", "benchmarks")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if marks.search(line)
    ]
    assert not found, "\n".join(found)


def test_no_path_of_one_machine() -> None:
    path_of_a_machine = re.compile(r"(?<![\w.$})])/(?:work|tmp|root|home|mnt|Users)/")
    files = [
        *python_files("src", "benchmarks"),
        *(ROOT / "recipes").glob("*"),
        *ROOT.glob("*.toml"),
        *ROOT.glob("*.yml"),
        *ROOT.glob("*.txt"),
        *ROOT.glob("*.md"),
        ROOT / "Makefile",
        ROOT / ".ci" / "run",
    ]
    found = [relative(f) for f in files if path_of_a_machine.search(f.read_text(encoding="utf-8"))]
    assert not found


def test_ci_runs_what_a_developer_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = script.read_text(encoding="utf-8").splitlines()
    assert "set -euo pipefail" in lines
    assert [line for line in lines if line.startswith("make ")] == ["make test", "make test-long"]


def blocks(text: str) -> list[str]:
    """Fenced blocks of a page, comments of shell blocks removed (they are translated)."""
    found = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [re.sub(r"\s*#.*$", "", block, flags=re.MULTILINE) for block in found]


def numbers_in_tables(text: str) -> list[list[str]]:
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [sorted(re.findall(r"\d+(?:\.\d+)?", row)) for row in rows]


def test_both_readmes_say_the_same() -> None:
    english, chinese = (
        (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md")
    )
    assert blocks(english) == blocks(chinese)
    assert numbers_in_tables(english) == numbers_in_tables(chinese)
    for mark in ("\n## ", "\n| ", "\n!["):
        assert english.count(mark) == chinese.count(mark), mark
    links = [set(re.findall(r"\]\(([^)#]+)\)", text)) for text in (english, chinese)]
    own = {"README.md", "README.zh-CN.md"}
    assert links[0] - own == {link.replace(".zh.md", ".md") for link in links[1] - own}


def test_readme_begins_with_the_two_commands() -> None:
    first = blocks((ROOT / "README.md").read_text(encoding="utf-8"))[0]
    assert [line.split() for line in first.splitlines()] == [["make", "demo"], ["make", "test"]]


def pages() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("**/*.md"))]


@pytest.mark.parametrize("page", pages(), ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    dead = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert not dead


def test_every_recipe_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [p.name for p in (ROOT / "recipes").glob("*.yaml") if p.name not in readme]
    assert not missing


def test_every_exit_code_is_documented() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^## Exit (\d+)", text, re.MULTILINE))
    kinds = {k.exit_code for k in errors.AssayError.__subclasses__()} | {0}
    assert documented == {str(code) for code in kinds}


def test_make_lists_its_targets() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    listed = [line.split()[1] for line in done.stdout.splitlines()]
    assert {"demo", "test", "test-long", "lint", "docs", "bench-adapt"} <= set(listed)


def test_the_package_is_imported_from_this_tree() -> None:
    assert Path(sys.modules["assay"].__file__ or "").resolve().is_relative_to(ROOT / "src")
