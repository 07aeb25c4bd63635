from __future__ import annotations

from typing import Any

from assay.claims import Capabilities, Refusal, conflicts
from assay.claims.capabilities import PROPERTIES, of


def caps(**more: Any) -> Capabilities:
    return Capabilities(**more)


def test_nothing_conflicts_with_nothing() -> None:
    assert conflicts([]) == []
    assert conflicts([("a", caps()), ("b", caps(breaks=frozenset({"labels"})))]) == []


def test_a_need_that_nobody_gives() -> None:
    part = caps(needs={"labels"}, mend={"labels": "name a label column"})
    assert conflicts([("supervised", part)]) == [
        Refusal(
            what="supervised needs that rows carry labels",
            where="supervised",
            mend="name a label column",
        )
    ]
    assert conflicts([("supervised", part), ("data", caps(gives={"labels"}))]) == []


def test_some_properties_hold_unless_broken() -> None:
    assert conflicts([("cache", caps(needs={"prefix_cache", "dense_weights"}))]) == []


def test_a_need_that_another_breaks() -> None:
    found = conflicts(
        [
            ("private", caps(needs={"row_independence"}, why={"row_independence": "clipping"})),
            (
                "batch_norm",
                caps(
                    breaks={"row_independence"},
                    why={"row_independence": "mixes rows"},
                    mend={"row_independence": "use replace_norm"},
                ),
            ),
        ]
    )
    assert found == [
        Refusal(
            what="private needs that clipping, but batch_norm mixes rows",
            where="private",
            mend="use replace_norm",
        )
    ]


def test_the_refusal_explains_itself_where_the_parts_do_not() -> None:
    found = conflicts([("a", caps(needs={"prefix_cache"})), ("b", caps(breaks={"prefix_cache"}))])
    meaning = PROPERTIES["prefix_cache"]
    assert found == [
        Refusal(
            what=f"a needs that {meaning}, but b does not allow that {meaning}",
            where="a",
            mend="leave out a or b",
        )
    ]


def test_a_part_does_not_break_its_own_need() -> None:
    both = caps(needs={"dense_weights"}, breaks={"dense_weights"})
    assert conflicts([("a", both)]) == []
    assert len(conflicts([("a", both), ("b", both)])) == 2


def test_every_breaker_is_named() -> None:
    breaker = caps(breaks={"dense_weights"})
    found = conflicts([("a", caps(needs={"dense_weights"})), ("b", breaker), ("c", breaker)])
    assert [refusal.mend for refusal in found] == ["leave out a or b", "leave out a or c"]


def test_of() -> None:
    class Part:
        def capabilities(self, context: Any) -> Capabilities:
            return caps(gives=frozenset({context}))

    assert of(Part(), "labels") == caps(gives={"labels"})
    assert of(object(), None) == Capabilities()
