from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from assay import registry
from assay.config import build, dump
from assay.data.config import DataConfig, SplitSpec
from assay.data.source import Sample
from assay.errors import UsageError

HERE = Path()


def config(raw: Any) -> DataConfig:
    return build(DataConfig, raw, "data")


def test_a_bare_name_is_a_sample() -> None:
    assert config("hmda") == DataConfig(name="hmda")


def test_dump_and_build_are_inverse() -> None:
    made = config(
        {
            "path": "t.csv",
            "label": "y",
            "text": "note",
            "sensitive": ["sex", "age"],
            "columns": {"grade": {"categories": [1, 2, 3]}, "age": {"bounds": [0, 120]}},
            "splits": {"by": "time", "column": "day"},
            "classes": [False, True],
            "positive": True,
        }
    )
    assert made.text == ("note",)
    assert made.classes == ("false", "true")
    assert made.positive == "true"
    assert config(json.loads(json.dumps(dump(made)))) == made


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "data: no data are named; give 'name:' of a sample or 'path:' of a file"),
        (
            {"path": "t.csv"},
            "data: which column is to be predicted is not said; give 'label:'",
        ),
        (
            {"path": "t.csv", "label": "y", "lable": "x"},
            "data.lable: unknown key 'lable'; did you mean 'label'?",
        ),
        (
            {"path": "t.csv", "label": "y", "splits": {"valid": 0.5, "test": 0.5}},
            "data.splits: valid and test leave nothing to train on; make them smaller",
        ),
        (
            {"path": "t.csv", "label": "y", "splits": {"by": "time"}},
            "data.splits: by: time needs a column; name it with 'column:'",
        ),
        (
            {"path": "t.csv", "label": "y", "classes": ["a", "a"]},
            "data: classes must be two or more different names; list each once",
        ),
        (
            {"path": "t.csv", "label": "y", "columns": {"a": {"kind": "number"}}},
            (
                "data.columns.a.kind: input should be 'numeric', 'categorical', 'text', "
                "'boolean', 'time' or 'image', got 'number'; correct the value"
            ),
        ),
    ],
)
def test_config_refuses(raw: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        config(raw)
    assert caught.value.line() == message


def test_unknown_samples() -> None:
    with pytest.raises(UsageError) as caught:
        config("review").card(HERE)
    assert caught.value.line() == "data.name: unknown sample 'review'; did you mean 'reviews'?"
    with pytest.raises(UsageError) as caught:
        config("data/loans.csv").card(HERE)
    assert caught.value.line() == (
        "data.name: 'data/loans.csv' is no sample's name; "
        "for a file write 'data: {path: data/loans.csv, label: ...}'"
    )


def test_the_card_of_a_file_is_made_without_opening_it() -> None:
    card = config(
        {
            "path": "far/away.csv",
            "label": "y",
            "text": ["note"],
            "unit": "person",
            "sensitive": ["sex"],
            "private": True,
            "license": "ours",
            "classes": ["a", "b", "c"],
            "splits": {"valid": 0},
        }
    ).card(HERE)
    assert (card.name, card.modality, card.splits) == ("away", "text", ("train", "test"))
    assert (card.label, card.classes, card.rows) == ("y", 3, None)
    assert (card.unit, card.sensitive, card.private) == ("person", ("sex",), True)
    assert card.license == "ours"


def test_the_card_of_a_sample() -> None:
    card = config("hmda").card(HERE)
    assert (card.rows, card.classes, card.sensitive) == (2380, 2, ("afam",))
    assert config({"name": "hmda", "label": "pirat"}).card(HERE).classes is None
    assert config("reviews").card(HERE).splits == ("train", "valid", "test")
    whole = config({"name": "reviews", "splits": {"valid": 0}}).card(HERE)
    assert whole.splits == ("train", "test")
    assert config({"name": "hmda", "splits": {"valid": 0, "test": 0}}).card(HERE).splits == (
        "train",
    )


def test_split_names() -> None:
    assert SplitSpec().names() == ("train", "valid", "test")
    assert SplitSpec(valid=0).names() == ("train", "test")


def test_every_sample_has_a_card() -> None:
    for name, part in registry.parts("sample").items():
        sample = part()
        assert isinstance(sample, Sample)
        card = sample.card()
        assert card.name == name
        assert card.rows is not None
        assert card.label is not None
        assert card.license != "unknown"
        assert not card.remote


def test_cards_need_no_heavy_library() -> None:
    code = (
        "import sys; from pathlib import Path; from assay import registry\n"
        "from assay.config import build; from assay.data.config import DataConfig\n"
        "from assay.tasks.base import infer\n"
        "cards = [build(DataConfig, n).card(Path()) for n in registry.names('sample')]\n"
        "[infer(card) for card in cards]\n"
        "heavy = {'torch', 'pandas', 'pyarrow', 'numpy', 'sklearn', 'tokenizers'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
