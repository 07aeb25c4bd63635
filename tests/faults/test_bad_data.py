"""Data and models that cannot be used: one line, the exit code, and nothing is left."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import SMALL, tree

ROWS = [f"{i * 0.5},{i % 5},{'yes' if i % 3 else 'no'}" for i in range(40)]
MLP = "{name: mlp, settings: {hidden: [4], dropout: 0.2}}"


def csv(*rows: str, header: str = "a,b,label") -> str:
    return "\n".join([header, *rows]) + "\n"


def with_cell(cell: str) -> str:
    """The table with another value in column a of its eighth row."""
    return csv(*ROWS[:7], f"{cell},1,yes", *ROWS[8:])


def with_split(name: Callable[[int], str]) -> str:
    """The table with a column that names each row's split."""
    return csv(*(f"{r},{name(i)}" for i, r in enumerate(ROWS)), header="a,b,label,s")


def with_labels(label: Callable[[int], object]) -> str:
    return csv(*(f"{i},{i % 5},{label(i)}" for i in range(40)))


GIVEN = ", splits: {by: given, column: s}"


@pytest.mark.parametrize(
    ("data", "extra", "code", "line"),
    [
        (with_cell("nan"), "", 4, "column 'a', row 8: the value is NaN; replace it with a number"),
        (with_cell("-NaN"), "", 4, "column 'a', row 8: the value is NaN; replace it"),
        (with_cell("inf"), "", 4, "column 'a', row 8: the value is infinite; replace it"),
        (with_cell("-Infinity"), "", 4, "column 'a', row 8: the value is infinite; replace it"),
        (with_cell("1e400"), "", 4, "column 'a', row 8: the value is infinite; replace it"),
        (with_cell("1e300"), "", 4, "column 'a', row 8: the value 1e+300 is too large"),
        (
            with_cell("word"),
            ", columns: {a: {kind: numeric}}",
            4,
            "column 'a', row 8: 'word' is not a number; correct the cell, or set",
        ),
        (with_labels(lambda i: "yes"), "", 4, "the label column 'label' holds one class only"),
        (
            csv(*ROWS, "1,1,maybe"),
            "",
            4,
            "class 'maybe' has 1 row, too few to be in each of train, valid, test; add rows",
        ),
        (with_labels(lambda i: ""), "", 4, "the label column 'label' has 40 missing value(s)"),
        (with_labels(lambda i: "yes" if i else ""), "", 4, "has 1 missing value(s), the first in"),
        ("", "", 4, "bad.csv: the file is empty; give it rows"),
        (csv(), "", 4, "bad.csv: the file has no rows; give it some"),
        (csv(ROWS[0]), "", 4, "holds one class only: 'no'"),
        (csv(*ROWS[:4]), "", 4, "class 'no' has 2 rows, too few to be in each of train, valid"),
        (csv(*ROWS[:7], "1,2,3,4"), "", 4, "cannot be read: CSV parse error: Expected 3 columns"),
        (csv(*ROWS, header="a,a,label"), "", 4, "two columns are called 'a'; rename one"),
        (csv(*(r.rpartition(",")[2] for r in ROWS), header="label"), "", 2, "needs feature"),
        (csv(*ROWS, header="a,b,lable"), "", 4, "names no column 'label'; did you mean 'lable'?"),
        (csv(*ROWS, header="a,b,c"), "", 4, "label names no column 'label'; one of: a, b, c"),
        (bytes(range(256)) * 20, "", 4, "bad.csv: cannot be read"),
        (csv(*ROWS).encode() + b"\xff\xfe,1,yes\n", "", 4, "not UTF-8, first in line 42; convert"),
        (with_split(lambda i: "valid"), GIVEN, 4, "the column 's' puts no row into 'train'; name"),
        (
            with_split(lambda i: "train" if i % 4 else "valid"),
            GIVEN,
            4,
            "data bad: the split 'test' has no rows, and stage 1 (audit) needs some",
        ),
        (csv(*ROWS), GIVEN, 4, "splits.column names no column 's'"),
        (csv(*ROWS), ", group: site", 4, "group names no column 'site'; one of: a, b, label"),
        (csv(*(f"7{r[r.index(',') :]}" for r in ROWS)), ", group: a", 4, "1 group(s) cannot be"),
        (csv(*ROWS), ", id: b", 4, "the id '0' of column 'b' stands in rows 1 and 6; make ids"),
        (csv(*ROWS), ", splits: {by: time, column: label}", 4, "is not a date"),
    ],
)
def test_tables(
    small: Path, assay: Any, data: str | bytes, extra: str, code: int, line: str
) -> None:
    Path("bad.csv").write_bytes(data if isinstance(data, bytes) else data.encode())
    text = SMALL.replace("rows.csv", "bad.csv").replace("label: label", f"label: label{extra}")
    Path("bad.yaml").write_text(text)
    refused(small, assay, code, line)


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        ("inf", "column 'label', row 40: the value is infinite"),
        ("nan", "the label column 'label' has 1 missing value(s), the first in row 40"),
        ("word", "column 'label', row 40: 'word' is not a number"),
        (None, "the label column 'label' holds one value only: 5; give rows with different"),
    ],
)
def test_targets_of_a_regression(small: Path, assay: Any, cell: str | None, line: str) -> None:
    value = (lambda i: 5.0) if cell is None else (lambda i: cell if i == 39 else i * 0.37)
    Path("bad.csv").write_text(with_labels(value))
    text = SMALL.replace("rows.csv", "bad.csv").replace("seed: 3", "task: tabular-regression")
    Path("bad.yaml").write_text(text)
    refused(small, assay, 4, line)


def test_steering_rows_that_the_file_does_not_have(small: Path, assay: Any) -> None:
    """The plan takes the splits of a file for given; without them nothing would stop early."""
    Path("bad.csv").write_text(with_split(lambda i: "train" if i % 4 else "test"))
    text = SMALL.replace("rows.csv", "bad.csv").replace("label: label", f"label: label{GIVEN}")
    Path("bad.yaml").write_text(text.replace("fp32", "fp32, early_stopping: 1"))
    refused(small, assay, 4, "the split 'valid' has no rows, and stage 0 (finetune) needs some")
    Path("bad.yaml").write_text(text)
    assert assay("run", "bad.yaml").code == 0


def test_a_value_that_is_not_known_is_no_mistake(small: Path, assay: Any) -> None:
    Path("bad.csv").write_text(with_cell(""))
    Path("bad.yaml").write_text(SMALL.replace("rows.csv", "bad.csv"))
    assert assay("run", "bad.yaml").code == 0
    Path("bad.csv").write_text(with_cell("nan"))
    missing = "label: label, columns: {a: {missing: true}}"
    text = SMALL.replace("rows.csv", "bad.csv").replace("label: label", missing)
    Path("bad.yaml").write_text(text)
    assert assay("run", "bad.yaml").code == 0


@pytest.mark.parametrize(
    ("data", "code", "line"),
    [
        (["1", "2.5"], 4, "the text column 'text' holds numbers; name a column of text, or use"),
        ([1, 2.5], 4, "the text column 'text' holds numbers; name a column of text, or use"),
        (None, 4, "text names no column 'text'"),
    ],
)
def test_text_that_is_none(
    small: Path, assay: Any, data: list[Any] | None, code: int, line: str
) -> None:
    key = "text" if data is not None else "words"
    values = data or ["fine words", "other words"]
    rows = [{key: values[i % 2], "label": "ab"[i % 2]} for i in range(40)]
    Path("bad.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text = SMALL.replace("rows.csv", "bad.jsonl").replace(MLP, "minilm-l6")
    Path("bad.yaml").write_text(text.replace("label: label", "label: label, text: [text]"))
    refused(small, assay, code, line)


def test_a_table_for_a_text_model(small: Path, assay: Any) -> None:
    Path("bad.yaml").write_text(SMALL.replace(MLP, "minilm-l6"))
    refused(small, assay, 2, "the task text-classification needs a column of text, and there is")


@pytest.mark.parametrize(
    ("name", "data", "line"),
    [
        ("gone.csv", None, "gone.csv: no such file or folder; "),
        ("folder", None, "folder: "),
        ("bad.parquet", b"PAR1 nonsense PAR1", "bad.parquet: cannot be read"),
        ("bad.arrow", b"ARROW1", "bad.arrow: cannot be read"),
        ("bad.jsonl", b'{"a": 1, "label": "x"}\n{"a": ', "bad.jsonl: "),
        ("bad.pkl", b"\x80\x04N.", "bad.pkl: "),
        ("bad", b"a,label\n1,x\n", "bad: "),
    ],
)
def test_files(small: Path, assay: Any, name: str, data: bytes | None, line: str) -> None:
    if data is not None:
        Path(name).write_bytes(data)
    elif name == "folder":
        Path(name).mkdir()
    Path("bad.yaml").write_text(SMALL.replace("rows.csv", name))
    refused(small, assay, 4, line)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize("damage", [_flip, _cut, Path.unlink])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "claims.jsonl"])
def test_a_base_model_that_is_damaged(
    small: Path, assay: Any, name: str, damage: Callable[[Path], None]
) -> None:
    assert assay("run", "small.yaml").code == 0
    shutil.move("runs/small/1/model", "base")
    shutil.rmtree("runs")
    damage(Path("base") / name)
    Path("bad.yaml").write_text(SMALL.replace(MLP, "base"))
    # without it nothing says whose folder it is
    refused(small, assay, 4 if name == "config.json" else 7, "base")


def refused(small: Path, assay: Any, code: int, line: str) -> None:
    """One line on standard error, and the folder is as it was."""
    there = tree(small)
    for _ in range(2):
        said = assay("run", "bad.yaml", "--threads", 1)
        assert (said.code, said.out) == (code, ""), said
        assert line in said.err
        assert said.err.startswith("error: ")
        assert said.err.count("\n") == 1
        assert not re.search(r"Traceback|bug in assay|pydantic", said.err)
        assert tree(small) == there
        assert assay("run", "bad.yaml", "--out", "new/folder").code == code
        assert tree(small) == there
