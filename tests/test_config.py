from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, field_validator

from assay import registry
from assay.config import Config, PartField, build, build_part, dump, dump_part, fields_of
from assay.errors import UsageError


class Adamish(Config):
    """A part."""

    shorthand: ClassVar[str | None] = "rate"

    rate: float = Field(default=0.1, gt=0)
    decay: float = 0.0


class Clipish(Config):
    """Another part."""

    norm: float = 1.0


class Inner(Config):
    """A nested value."""

    shorthand: ClassVar[str | None] = "size"

    size: int = 3
    names: tuple[str, ...] = ()

    @field_validator("names")
    @classmethod
    def _few(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(names) > 2:
            raise ValueError("too many names; give two")
        return names


class Outer(Config):
    """A value with everything."""

    number: int
    inner: Inner = Inner()
    maybe: Inner | None = None
    one: Annotated[Any, PartField("step", default="adamish")] = None
    some: Annotated[Any, PartField("step", many=True)] = None
    words: frozenset[str] = frozenset()


class Listed(Config):
    """A value that is written as its one field."""

    inline: ClassVar[str | None] = "some"

    some: Annotated[Any, PartField("step", many=True, default="clipish")] = None


@pytest.fixture(autouse=True, scope="module")
def registered() -> Iterator[None]:
    registry.register("step", "adamish")(Adamish)
    registry.register("step", "clipish")(Clipish)
    yield
    registry.unregister("step", "adamish")
    registry.unregister("step", "clipish")


def refused(raw: Any, cls: type[Config] = Outer) -> UsageError:
    with pytest.raises(UsageError) as caught:
        build(cls, raw, "stages[0].finetune")
    return caught.value


def test_defaults_and_parts() -> None:
    built = build(Outer, {"number": 1})
    assert built == Outer(number=1)
    assert built.one == Adamish()
    assert built.some == ()


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        ("adamish", Adamish()),
        ({"adamish": None}, Adamish()),
        ({"adamish": 0.5}, Adamish(rate=0.5)),
        ({"adamish": {"rate": 0.5, "decay": 0.01}}, Adamish(rate=0.5, decay=0.01)),
        (Clipish(norm=2.0), Clipish(norm=2.0)),
    ],
)
def test_ways_to_write_one_part(raw: Any, part: Config) -> None:
    assert build(Outer, {"number": 1, "one": raw}).one == part
    assert Outer(number=1, one=raw).one == part


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        ("clipish", (Clipish(),)),
        ({"adamish": 0.5, "clipish": None}, (Adamish(rate=0.5), Clipish())),
        ([{"adamish": 0.5}, {"adamish": 0.6}], (Adamish(rate=0.5), Adamish(rate=0.6))),
        (Clipish(), (Clipish(),)),
        ([Clipish(), Adamish()], (Clipish(), Adamish())),
        ({}, ()),
    ],
)
def test_ways_to_write_many_parts(raw: Any, parts: tuple[Config, ...]) -> None:
    built = build(Outer, {"number": 1, "some": raw})
    assert built.some == parts
    assert build(Outer, dump(built)) == built


def test_nested_values() -> None:
    built = build(Outer, {"number": 1, "inner": 5, "maybe": {"size": 2, "names": ["a"]}})
    assert built.inner == Inner(size=5)
    assert built.maybe == Inner(size=2, names=("a",))
    assert build(Outer, {"number": 1, "maybe": None}).maybe is None


def test_inline_values() -> None:
    for raw, parts in (
        ("adamish", (Adamish(),)),
        ({"adamish": {"rate": 0.3}}, (Adamish(rate=0.3),)),
        (None, (Clipish(),)),
    ):
        built = build(Listed, raw)
        assert built.some == parts
        assert build(Listed, dump(built)) == built
    assert dump(build(Listed, "clipish")) == {"clipish": {"norm": 1.0}}
    assert refused({"clip": None}, Listed).where == "stages[0].finetune.clip"


@given(st.integers(), st.integers(), st.sets(st.sampled_from(["adamish", "clipish"])))
def test_build_inverts_dump(number: int, size: int, parts: set[str]) -> None:
    value = Outer(
        number=number, inner=Inner(size=size), some=dict.fromkeys(sorted(parts)), words={"b", "a"}
    )
    plain = dump(value)
    assert build(Outer, plain) == value
    assert dump(build(Outer, plain)) == plain
    assert plain["words"] == ["a", "b"]


def test_dump_part() -> None:
    assert dump_part(Adamish(rate=0.5)) == {"adamish": {"rate": 0.5, "decay": 0.0}}
    assert build_part("step", dump_part(Adamish(rate=0.5))) == Adamish(rate=0.5)
    assert build_part("step", None) is None


@pytest.mark.parametrize(
    ("raw", "where", "says"),
    [
        ({"numbr": 1}, ".numbr", "unknown key 'numbr'; did you mean 'number'?"),
        ({}, ".number", "this key is missing"),
        ({"number": "x"}, ".number", "valid integer"),
        ({"number": [1]}, ".number", "got [1]"),
        ({"number": 1, "inner": {"sise": 2}}, ".inner.sise", "did you mean 'size'?"),
        ({"number": 1, "inner": {"size": "big"}}, ".inner.size", "got 'big'"),
        ({"number": 1, "inner": "big"}, ".inner.size", "got 'big'"),
        (
            {"number": 1, "inner": {"names": ["a", "b", "c"]}},
            ".inner.names",
            "too many names; give two",
        ),
        ({"number": 1, "one": "adamsh"}, ".one.adamsh", "did you mean 'adamish'?"),
        ({"number": 1, "one": {"adamish": 1, "clipish": 1}}, ".one", "got 2 of them"),
        ({"number": 1, "one": 7}, ".one", "expected the name of one step part, got 7"),
        ({"number": 1, "one": {"adamish": {"rat": 1}}}, ".one.adamish.rat", "mean 'rate'?"),
        ({"number": 1, "one": {"adamish": -1}}, ".one.adamish.rate", "greater than 0, got -1"),
        (
            {"number": 1, "one": {"adamish": float("nan")}},
            ".one.adamish.rate",
            "finite number, got nan",
        ),
        ({"number": 1, "one": {"clipish": 2}}, ".one.clipish", "expected a mapping, got 2"),
        ({"number": 1, "some": 7}, ".some", "expected names of step parts, got 7"),
        ({"number": 1, "some": ["adamish"]}, ".some", "write {adamish: {}}"),
        ({"number": 1, "some": [{"x": 1}]}, ".some[0].x", "unknown step 'x'"),
        ({1: 2}, ".1", "unknown key '1'"),
        (7, "", "expected a mapping, got 7"),
        ([], "", "expected a mapping, got []"),
    ],
)
def test_mistakes_are_one_line_with_their_path(raw: Any, where: str, says: str) -> None:
    error = refused(raw)
    assert error.where == "stages[0].finetune" + where
    assert says in str(error)
    assert "\n" not in str(error)
    assert error.exit_code == 2


def test_values_are_frozen_and_strict() -> None:
    with pytest.raises(ValidationError):
        Inner().size = 4  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Inner(sise=4)  # type: ignore[call-arg]


def test_a_built_value_passes_through() -> None:
    inner = Inner(size=9)
    assert build(Inner, inner) is inner


def test_fields_of() -> None:
    assert fields_of(Adamish) == {"rate": ("float", 0.1), "decay": ("float", 0.0)}
    assert fields_of(Inner)["names"] == ("tuple[str, ...]", ())
