"""Imports run downwards only, part modules are light, and the core knows no technique."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parent.parent / "src"

#: rooms from top to bottom; a module imports from its own room and from those below only
ROOMS = (
    "cli",
    "recipe",
    "verify",
    "stages",
    "report",
    "training",
    "federation",
    "compression",
    "audit",
    "deploy",
    "privacy",
    "models",
    "data",
    "tasks",
    "claims",
    "ground",
)
#: the modules that everything stands on; they may import each other
GROUND = frozenset({"registry", "config", "files", "errors"})
#: the package's front door and `python -m assay` stand above all rooms
DOORS = frozenset({"", "__main__"})

#: packages whose modules hold parts: looked up by name, imported by `plan`
PART_PACKAGES = (
    "assay.stages",
    "assay.training.objectives",
    "assay.training.parameters",
    "assay.training.steps",
    "assay.training.places",
    "assay.training.augmentations",
    "assay.models.structures",
    "assay.models.architectures",
    "assay.audit",
    "assay.tasks",
    "assay.data.samples",
)
COLUMNS = tuple(p for p in PART_PACKAGES if p.startswith("assay.training."))
#: what a module that `plan` imports may load at top level, beside the standard library
LIGHT = frozenset({"assay", "pydantic", "pydantic_core", "typing_extensions", "yaml"})
CORE = ("assay.recipe", "assay.verify", "assay.claims", "assay.training.loop")


@dataclass(frozen=True)
class Import:
    """One import statement: the module it names, its line, and whether importing runs it."""

    target: str
    line: int
    top: bool


def module_name(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    return {module_name(path): path for path in sorted(SRC.glob("assay/**/*.py"))}


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _collect(node: ast.AST, top: bool, found: list[Import]) -> None:
    if isinstance(node, ast.Import):
        found += [Import(alias.name, node.lineno, top) for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module is not None:
        for alias in node.names:
            if (node.module, alias.name) == ("assay", "__version__"):
                continue  # a constant of the front door, which imports nothing
            whole = f"{node.module}.{alias.name}"
            target = whole if whole in modules() else node.module
            found.append(Import(target, node.lineno, top))
    elif isinstance(node, ast.If) and _is_type_checking(node.test):
        for statement in node.body:
            _collect(statement, False, found)
        for statement in node.orelse:
            _collect(statement, top, found)
    else:
        inner = top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            _collect(child, inner, found)


@cache
def imports(name: str) -> tuple[Import, ...]:
    found: list[Import] = []
    _collect(tree(name), True, found)
    return tuple(found)


def room(name: str) -> str:
    """The room of a module of the package."""
    first = name.removeprefix("assay").removeprefix(".").partition(".")[0]
    return "ground" if first in GROUND else first


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@cache
def registers(name: str) -> bool:
    """Whether a module holds a registered part."""
    return any(
        isinstance(decorator, ast.Call)
        and getattr(decorator.func, "id", getattr(decorator.func, "attr", "")) == "register"
        for node in ast.walk(tree(name))
        if isinstance(node, ast.ClassDef)
        for decorator in node.decorator_list
    )


def where(name: str, item: Import) -> str:
    return f"{modules()[name].relative_to(SRC.parent)}:{item.line}"


def ours(item: Import) -> bool:
    return item.target == "assay" or item.target.startswith("assay.")


def test_every_room_has_its_place() -> None:
    unknown = sorted({room(name) for name in modules()} - set(ROOMS) - DOORS)
    assert not unknown, f"say where {unknown} stand among the rooms: {' > '.join(ROOMS)}"


def test_imports_run_downwards() -> None:
    wrong = []
    for name in modules():
        here = room(name)
        if here in DOORS:
            continue
        for item in filter(ours, imports(name)):
            there = room(item.target)
            if there in DOORS or ROOMS.index(there) < ROOMS.index(here):
                wrong.append(
                    f"{where(name, item)}: {here} imports {item.target}, which stands above it"
                )
    assert not wrong, "\n".join(wrong)


def test_a_rooms_own_package_is_named_whole() -> None:
    wrong = [
        f"{modules()[name].relative_to(SRC.parent)}:{node.lineno}: relative import"
        for name in modules()
        for node in ast.walk(tree(name))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not wrong, "\n".join(wrong)


def _packages_of(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]


def heavy_path(name: str, seen: frozenset[str] = frozenset()) -> list[str]:
    """The chain of top-level imports from a module to the first library that is not light."""
    for item in imports(name):
        library = item.target.partition(".")[0]
        if not item.top or library in sys.stdlib_module_names:
            continue
        if library not in LIGHT:
            return [where(name, item), library]
        for package in _packages_of(item.target):
            if package in modules() and package not in seen and package != name:
                further = heavy_path(package, seen | {name, package})
                if further:
                    return [where(name, item), *further]
    return []


def test_part_modules_are_light() -> None:
    wrong = []
    for name in modules():
        chain = heavy_path(name) if registers(name) else []
        if chain:
            wrong.append(" -> ".join(chain) + ": import it inside the function that needs it")
    assert not wrong, "\n".join(wrong)


def test_parts_stand_where_they_are_looked_for() -> None:
    wrong = [
        f"{modules()[name].relative_to(SRC.parent)}: registers a part, but no kind looks there"
        for name in modules()
        if registers(name) and not within(name, PART_PACKAGES)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_core_imports_no_technique() -> None:
    wrong = [
        f"{where(name, item)}: {name} imports the technique {item.target}; use registry.find"
        for name in modules()
        if within(name, CORE)
        for item in filter(ours, imports(name))
        if item.target in modules() and registers(item.target)
    ]
    assert not wrong, "\n".join(wrong)


def test_parts_of_the_four_columns_never_import_each_other() -> None:
    wrong = [
        f"{where(name, item)}: the part {name} imports the part {item.target}"
        for name in modules()
        if within(name, COLUMNS) and registers(name)
        for item in filter(ours, imports(name))
        if within(item.target, COLUMNS) and registers(item.target)
    ]
    assert not wrong, "\n".join(wrong)


_PROBE = """
import json, sys
from assay.cli import main
sys.argv = ["assay", *sys.argv[1:]]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
names = {name.partition(".")[0] for name in sys.modules}
print()
print(json.dumps(sorted(names)))
"""


def loaded_by(*arguments: str, folder: Path) -> set[str]:
    """The libraries that a command loads, seen from inside its process."""
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr or done.stdout
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("recipe", [None, "reviews", "credit"])
def test_help_and_plan_load_nothing_heavy(recipe: str | None, root: Path, tmp_path: Path) -> None:
    arguments = ("plan", str(root / "recipes" / f"{recipe}.yaml")) if recipe else ("--help",)
    heavy = {"torch", "transformers", "pandas", "sklearn", "onnxruntime", "matplotlib", "scipy"}
    assert not loaded_by(*arguments, folder=tmp_path) & heavy
