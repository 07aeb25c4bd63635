"""Settings are values with checked bounds, and say what they need and break."""

from __future__ import annotations

from typing import Any

import pytest

from assay.claims import DataCard, ModelCard, PlanContext
from assay.claims.capabilities import Capabilities, conflicts
from assay.config import build_part
from assay.errors import UsageError
from assay.training.parts import Setting

CONTEXT = PlanContext(model=ModelCard(name="m"), data=DataCard(name="d"), task=None)


def make(name: str, value: Any = None) -> Any:
    part = build_part("step", {name: value})
    assert isinstance(part, Setting)
    return part


def test_shorthands() -> None:
    assert make("precision", "bf16").mode == "bf16"
    assert make("accumulate", 4).batches == 4
    assert make("early_stopping", 2).patience == 2
    assert make("dropout", 0.3).rate == 0.3


@pytest.mark.parametrize(
    ("name", "value", "where"),
    [
        ("precision", "fp8", "precision.mode"),
        ("accumulate", 0, "accumulate.batches"),
        ("early_stopping", 0, "early_stopping.patience"),
        ("early_stopping", {"metric": "accuracy"}, "early_stopping.metric"),
        ("dropout", 1.0, "dropout.rate"),
        ("clip_norm", 0, "clip_norm.max"),
        ("ema", 1.0, "ema.decay"),
        ("adamw", {"lr": 0}, "adamw.lr"),
        ("adamw", {"lr": 0.1, "beta3": 1}, "adamw.beta3"),
        ("adamw", {}, "adamw.lr"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(name: str, value: Any, where: str) -> None:
    with pytest.raises(UsageError) as caught:
        build_part("step", {name: value})
    assert caught.value.where == where


def test_only_bf16_takes_full_precision_away_and_says_the_way_out() -> None:
    assert make("precision", "auto").capabilities(CONTEXT) == Capabilities()
    assert make("precision", "fp32").capabilities(CONTEXT) == Capabilities()
    (refusal,) = conflicts(
        [
            ("private", Capabilities(needs=frozenset({"full_precision"}))),
            ("precision", make("precision", "bf16").capabilities(CONTEXT)),
        ]
    )
    assert refusal.what == (
        "private needs that gradients are computed in float32, "
        "but precision computes gradients in bfloat16"
    )
    assert refusal.mend == "set precision: fp32"


def test_early_stopping_needs_validation_rows() -> None:
    part = make("early_stopping")
    assert part.observes
    (refusal,) = conflicts([("early_stopping", part.capabilities(CONTEXT))])
    assert refusal.what == "early_stopping needs that there is a validation loss to watch"
    assert "data.splits.valid" in refusal.mend
    assert not make("accumulate").observes
