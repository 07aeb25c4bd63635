"""How values are written."""

from __future__ import annotations

import math

import pytest

from assay.claims import Bound
from assay.report.numbers import (
    bound_words,
    difference,
    digits_apart,
    duration,
    less_is_better,
    number,
    pair,
    parse_bound,
    shown,
    shown_interval,
    significant,
    told_apart,
)

ACCURACY = "quality.accuracy"


@pytest.mark.parametrize(
    ("value", "unit", "kind", "text"),
    [
        (0.857, "fraction", ACCURACY, "85.7%"),
        (1.0, "fraction", "agreement.top1", "100.0%"),
        (0.92114, "fraction", "quality.auroc", "0.921"),
        (0.92114, "", "quality.auroc", "0.921"),
        (-0.25, "fraction", "quality.r2", "-0.250"),
        (22713986, "count", "size.parameters", "22.7 M"),
        (4353, "count", "size.parameters", "4,353"),
        (99999, "count", "", "99,999"),
        (100000, "count", "", "100 k"),
        (2.5e12, "count", "", "2.50 T"),
        (999, "bytes", "size.bytes", "999 B"),
        (91120331, "bytes", "size.bytes", "91.1 MB"),
        (21.37, "ms", "latency.p50_ms", "21.4 ms"),
        (0.05321, "ms", "latency.p50_ms", "0.0532 ms"),
        (1187.2, "ms", "latency.p50_ms", "1,187 ms"),
        (12843.7, "usd", "quality.rmse", "12,844 USD"),
        (2.3821, "", "privacy.epsilon", "2.382"),
        (0, "", "", "0"),
        (1.5e-9, "", "", "1.5e-09"),
        (True, "", "", "yes"),
        (False, "", "", "no"),
        (None, "", "", "\u2013"),
        ("a machine", "", "", "a machine"),
        (math.inf, "", "", "inf"),
    ],
)
def test_shown(value: object, unit: str, kind: str, text: str) -> None:
    assert shown(value, unit, kind) == text


def test_unequal_numbers_never_read_the_same() -> None:
    assert told_apart(0.8399, 0.84, "fraction", ACCURACY) == ("83.99%", "84%")
    assert told_apart(0.84, 0.84, "fraction", ACCURACY) == ("84.0%", "84%")
    assert told_apart(0.839999, 0.84, "fraction", ACCURACY) == ("83.9999%", "84%")
    assert told_apart(100_010_000, 100e6, "bytes", "size.bytes") == ("100.01 MB", "100 MB")
    assert digits_apart(0.9, 0.84, "fraction", ACCURACY) == 0


def test_limits_are_written_as_a_person_would() -> None:
    for text, unit, kind, words in (
        (">= 0.84", "fraction", ACCURACY, "at least 84%"),
        ("<= 100000000", "bytes", "size.bytes", "at most 100 MB"),
        ("< 50", "ms", "latency.p50_ms", "less than 50 ms"),
        ("> 0.805", "fraction", "quality.auroc", "more than 0.805"),
        ("== 1", "fraction", "agreement.top1", "exactly 100%"),
        ("<= 250000", "count", "size.parameters", "at most 250 k"),
    ):
        assert str(bound_words(Bound(text=text), 0.5, unit, kind)) == words


def test_intervals_write_their_unit_once() -> None:
    assert str(shown_interval([0.8348, 0.8778], "fraction", ACCURACY)) == "83.5 to 87.8%"
    assert str(shown_interval((12110.0, 13602.4), "usd", "quality.rmse")) == "12,110 to 13,602 USD"
    assert str(shown_interval([900, 1200], "bytes", "")) == "900 B to 1.20 kB"
    for broken in (None, [], [1], [1, None], [math.nan, 1], "ab"):
        assert shown_interval(broken, "", "") is None


def test_differences() -> None:
    assert str(difference(-0.052, "fraction", ACCURACY)) == "5.2 points"
    assert str(difference(0.01, "fraction", ACCURACY)) == "1.0 point"
    assert str(difference(0.0001, "fraction", ACCURACY)) == "0.01 points"
    assert str(difference(0.0002, "fraction", "quality.auroc")) == "0.0002"
    assert str(difference(28.63, "ms", "latency.p50_ms")) == "28.6 ms"


def test_helpers() -> None:
    assert number(True) is None and number("1") is None and number(math.nan) is None
    assert number(3) == 3.0
    assert pair([1, 2]) == (1.0, 2.0) and pair([1, "2"]) is None and pair({"a": 1}) is None
    assert less_is_better("quality.rmse") and not less_is_better(ACCURACY)
    assert significant(-0.001234, 2) == "-0.0012"
    assert parse_bound("about 3") is None and parse_bound(None) is None
    assert parse_bound({"text": "<= 3"}) == Bound(text="<= 3")
    assert [str(duration(s)) for s in (0.04, 59.96, 3600)] == ["0.0 s", "1 min 0 s", "1 h 0 min"]
