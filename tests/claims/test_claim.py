from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from assay.claims import Bound, Claim, Requirement
from assay.errors import UsageError

MakeClaim = Callable[..., Claim]


@pytest.mark.parametrize("kind", ["quality.accuracy", "latency.p50_ms", "a.b.c", "f.1_2"])
def test_kinds(kind: str) -> None:
    assert Claim(kind=kind, value=1, unit="count").kind == kind


@pytest.mark.parametrize("kind", ["accuracy", "Quality.accuracy", "quality.", ".x", "q.A", "q. a"])
def test_what_is_no_kind(kind: str) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        Claim(kind=kind, value=1, unit="count")


@pytest.mark.parametrize("value", [True, 3, 0.5, "apache-2.0", None])
def test_values_keep_their_type(value: Any) -> None:
    assert type(Claim(kind="a.b", value=value, unit="").value) is type(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_are_finite(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Claim(kind="a.b", value=value, unit="")
    with pytest.raises(ValidationError, match="finite"):
        Claim(kind="a.b", value=0.5, unit="", interval=(0.0, value))


def test_identity_is_kind_data_split_and_conditions(claim: MakeClaim) -> None:
    base = claim(conditions={"a": 1, "b": 2})
    same = claim(value=0.1, conditions={"b": 2, "a": 1}, method="other", n=3, unit="percent")
    assert same.identity() == base.identity()
    for other in (
        claim("quality.auroc", conditions=base.conditions),
        claim(dataset="digits", conditions=base.conditions),
        claim(split="valid", conditions=base.conditions),
        claim(split=None, conditions=base.conditions),
        claim(conditions={"a": 1}),
        claim(conditions={"a": 1, "b": 3}),
    ):
        assert other.identity() != base.identity()


@pytest.mark.parametrize(
    ("text", "passing", "failing"),
    [
        (">= 0.84", (0.84, 1.0), (0.8399,)),
        ("<= 3", (3.0, -1.0), (3.0001,)),
        ("> 0", (1e-9,), (0.0,)),
        ("< -1.5e-3", (-1.0,), (-0.0015,)),
        ("== 1", (1.0,), (0.999,)),
        ("  >=.5 ", (0.5,), (0.4,)),
        (">= +2.", (2.0,), (1.9,)),
    ],
)
def test_bounds(text: str, passing: tuple[float, ...], failing: tuple[float, ...]) -> None:
    bound = Bound(text=text)
    assert all(map(bound.passes, passing))
    assert not any(map(bound.passes, failing))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0.84",
        ">= x",
        "=> 1",
        ">= 1 2",
        ">= 1.2.3",
        ">= .",
        ">= ...",
        ">= 1e",
        ">= 1e999",
        "> nan",
    ],
)
def test_what_is_no_bound(text: str) -> None:
    with pytest.raises(ValidationError):
        Bound(text=text)


@pytest.mark.parametrize(
    ("text", "worst"),
    [
        (">= 0.5", 0.4),
        ("> 0.5", 0.4),
        ("<= 0.5", 0.7),
        ("< 0.5", 0.7),
        ("== 0.5", 0.7),
        ("== 0.6", 0.4),
    ],
)
def test_the_worse_end_of_an_interval(text: str, worst: float) -> None:
    assert Bound(text=text).worst((0.4, 0.7)) == worst


def require(**more: Any) -> Requirement:
    return Requirement(kind="quality.accuracy", **more)


def test_a_requirement_matches_what_it_names(claim: MakeClaim) -> None:
    said = claim(conditions={"threshold": 0.5})
    assert require().matches(said)
    assert require(dataset="reviews", split="test", conditions={"threshold": 0.5}).matches(said)
    assert not require(dataset="digits").matches(said)
    assert not require(split="valid").matches(said)
    assert not require(conditions={"threshold": 0.4}).matches(said)
    assert not require(conditions={"attack": "pgd"}).matches(said)
    assert not Requirement(kind="quality.auroc").matches(said)


def test_an_ambiguous_requirement_is_refused(claim: MakeClaim) -> None:
    claims = [claim(), claim(split="valid"), claim("quality.auroc")]
    assert require(split="valid").choose(claims) == claims[1]
    assert require(split="train").choose(claims) is None
    with pytest.raises(UsageError, match=r"2 claims match .*reviews/test.*reviews/valid"):
        require().choose(claims)


def test_verdicts(claim: MakeClaim) -> None:
    bound = Bound(text=">= 0.85")
    assert require().verdict(claim()) == (True, 0.0)
    assert require(bound=bound).verdict(claim(value=0.85)) == (True, 0.0)
    met, miss = require(bound=bound).verdict(claim(value=0.84))
    assert not met
    assert miss == pytest.approx(0.01)
    assert require(bound=bound).verdict(claim().model_copy(update={"value": "good"})) == (
        False,
        None,
    )


def test_strict_verdicts_take_the_interval(claim: MakeClaim) -> None:
    strict = require(bound=Bound(text=">= 0.84"), strict=True)
    met, miss = strict.verdict(claim(value=0.85, interval=(0.83, 0.87)))
    assert not met
    assert miss == pytest.approx(0.01)
    assert strict.verdict(claim(value=0.85, interval=None)) == (True, 0.0)
    assert strict.verdict(claim(value=0.85, interval=(0.84, 0.87))) == (True, 0.0)
