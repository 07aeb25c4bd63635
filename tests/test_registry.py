from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay import registry
from assay.config import Config
from assay.errors import UsageError


class Part(Config):
    """A part."""


@pytest.fixture
def part() -> Iterator[type[Config]]:
    yield registry.register("step", "dummy_part")(Part)
    registry.unregister("step", "dummy_part")


def test_a_registered_part_is_found(part: type[Config]) -> None:
    assert registry.find("step", "dummy_part") is part
    assert (part.part_kind, part.part_name) == ("step", "dummy_part")
    assert "dummy_part" in registry.names("step")
    assert registry.parts("step")["dummy_part"] is part
    assert registry.names("step") == sorted(registry.names("step")) == list(registry.parts("step"))


def test_an_unknown_part_is_a_usage_error(part: type[Config]) -> None:
    with pytest.raises(UsageError, match=r"step\.x: unknown step 'dumy_part'; did you mean 'dummy"):
        registry.find("step", "dumy_part", "step.x")


def test_unregister(part: type[Config]) -> None:
    registry.unregister("step", "dummy_part")
    assert "dummy_part" not in registry.names("step")
    registry.unregister("step", "dummy_part")


def test_a_name_is_taken_once(part: type[Config]) -> None:
    class Other(Config):
        """Another class."""

    with pytest.raises(ValueError, match="'dummy_part' is already"):
        registry.register("step", "dummy_part")(Other)
    assert registry.register("step", "dummy_part")(part) is part


def test_kinds_are_known_words() -> None:
    with pytest.raises(ValueError, match=r"no kind of part 'stepp'; did you mean 'step'"):
        registry.register("stepp", "x")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of parts that the kind `step` looks into."""
    folder = tmp_path / "parts_for_a_test"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry.KINDS, "step", "parts_for_a_test")
    monkeypatch.setitem(registry._parts, "step", {})
    monkeypatch.setattr(registry, "_discovered", set())
    yield folder
    for name in [n for n in sys.modules if n.startswith("parts_for_a_test")]:
        del sys.modules[name]


PART = """
from assay.config import Config
from assay.registry import register

@register("step", "{name}")
class Part(Config):
    pass
"""


def test_modules_are_discovered(package: Path) -> None:
    (package / "one.py").write_text(PART.format(name="one"))
    (package / "_helper.py").write_text("raise RuntimeError")
    (package / "sub").mkdir()
    (package / "sub" / "__init__.py").write_text("raise RuntimeError")
    assert registry.names("step") == ["one"]


def test_a_module_that_fails_fails_every_time(package: Path) -> None:
    (package / "bad.py").write_text("import no_such_library")
    (package / "good.py").write_text(PART.format(name="good"))
    for _ in range(2):
        with pytest.raises(ImportError, match="no_such_library"):
            registry.names("step")


@pytest.fixture
def user_file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "my_part.py"
    path.write_text(PART.format(name="users_own"))
    yield path
    registry.unregister("step", "users_own")
    for name in [n for n in sys.modules if n.startswith("assay_user_")]:
        del sys.modules[name]


def test_a_user_file_registers_its_parts_once(user_file: Path) -> None:
    registry.load_user_file(user_file, allowed=True)
    part = registry.find("step", "users_own")
    registry.load_user_file(user_file, allowed=True)
    assert registry.find("step", "users_own") is part


def test_a_user_file_runs_only_when_allowed(user_file: Path) -> None:
    with pytest.raises(UsageError, match=r"wants to run .*--allow"):
        registry.load_user_file(user_file, allowed=False)
    assert "users_own" not in registry.names("step")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("raise KeyError('x')", "fails when run: KeyError"),
        ("1 +", "fails when run: SyntaxError"),
        ("import no_such_library", "fails when run: ModuleNotFoundError"),
    ],
)
def test_a_user_file_that_fails_is_a_usage_error(user_file: Path, text: str, says: str) -> None:
    user_file.write_text(text)
    for _ in range(2):  # a failed module must not pass for a loaded one
        with pytest.raises(UsageError, match=says) as caught:
            registry.load_user_file(user_file, allowed=True)
        assert "\n" not in str(caught.value)


def test_a_user_file_must_be_there_and_be_python(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        registry.load_user_file(tmp_path / "none.py", allowed=True)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="not a Python file"):
        registry.load_user_file(tmp_path / "notes.txt", allowed=True)
