from __future__ import annotations

import pytest
from pydantic import ValidationError

from assay.claims import DataCard, Effects, Estimate, ModelCard, PlanContext, Read


@pytest.mark.parametrize(
    ("influences", "disclosure"),
    [
        (("claims",), True),
        (("claims", "report"), True),
        (("report",), True),
        (("weights",), False),
        (("claims", "choice"), False),
        (("preprocessing",), False),
        (("structure", "report"), False),
    ],
)
def test_a_reading_that_reaches_only_claims_or_report_is_a_disclosure(
    influences: tuple[str, ...], disclosure: bool
) -> None:
    assert Read(split="train", influences=influences).disclosure is disclosure


def test_influences_are_known_words() -> None:
    with pytest.raises(ValidationError):
        Read(split="train", influences=("mood",))


def test_the_default_keeps_nothing() -> None:
    assert not Effects().does_keep("quality.accuracy")
    assert not Effects().does_add("quality.accuracy")


def test_patterns() -> None:
    effects = Effects(adds=("quality.*",), keeps=("size.*", "latency.p50_ms"))
    assert effects.does_add("quality.macro_f1")
    assert not effects.does_add("qualityx.f1")
    assert effects.does_keep("size.bytes")
    assert effects.does_keep("latency.p50_ms")
    assert not effects.does_keep("latency.p99_ms")
    assert not effects.does_keep("Size.bytes")
    assert Effects(keeps=("*",)).does_keep("anything.at_all")


def test_cards_and_contexts_have_defaults() -> None:
    context = PlanContext(model=ModelCard(name="m"), data=DataCard(name="d"), task=None)
    assert context.stage == 0
    assert context.data.splits == ("train", "valid", "test")
    assert Estimate() == Estimate(seconds=0.0, bytes=0, basis="")
