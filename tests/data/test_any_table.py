"""Whatever a table holds: it is opened, fitted and encoded, or refused in one line."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from assay.config import build
from assay.data.config import DataConfig
from assay.data.door import LocalDoor
from assay.data.preprocessing import TabularPreprocessing, fit_tabular
from assay.errors import AssayError

CELLS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.int8(), st.integers(0, 1)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.float64(), st.floats()),
    (pa.float32(), st.floats(width=32)),
    (pa.float64(), st.sampled_from([0.0, 1.0, 2.0, float("nan")])),
    (pa.bool_(), st.booleans()),
    (pa.string(), st.text(max_size=5)),
    (pa.large_string(), st.sampled_from(["yes", "no", "", " "])),
    (pa.string(), st.sampled_from(["1", "2.5", "1e400", "inf", "nan", "-0", "1_0", "٣"])),
    (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["u", "v"])),
    (pa.date32(), st.dates()),
    (pa.timestamp("ns", tz="UTC"), st.integers(-(2**62), 2**62)),
    (pa.string(), st.dates().map(dt.date.isoformat)),
    (pa.decimal128(10, 2), st.decimals(-9999, 9999, places=2)),
    (pa.duration("s"), st.integers(-(10**9), 10**9)),
    (pa.time32("s"), st.integers(0, 86399)),
    (pa.list_(pa.int64()), st.just([1])),
    (pa.binary(), st.binary(max_size=3)),
    (pa.null(), st.none()),
]


@st.composite
def columns(draw: st.DrawFn, rows: int = 24) -> pa.Array:
    kind, cells = draw(st.sampled_from(CELLS))
    gaps = draw(st.booleans())
    values = draw(
        st.lists(st.one_of(st.none(), cells) if gaps else cells, min_size=rows, max_size=rows)
    )
    if pa.types.is_dictionary(kind):
        return pa.array(values).cast(pa.string()).dictionary_encode()
    return pa.array(values, type=kind)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


@given(st.data())
@settings(max_examples=15)
def test_a_table_is_used_or_refused(folder: Path, data: st.DataObject) -> None:
    names = ["a", "b", "c"]
    table = pa.table({name: data.draw(columns()) for name in [*names, "y"]})
    parquet.write_table(table, folder / "t.parquet")
    roles = st.none() | st.sampled_from(names)
    raw: dict[str, Any] = {"path": "t.parquet", "label": "y"}
    for key in ("unit", "group", "id", "site"):
        raw[key] = data.draw(roles)
    raw["sensitive"] = data.draw(st.lists(st.sampled_from(names), max_size=1))
    raw["drop_missing_label"] = data.draw(st.booleans())
    by = data.draw(st.sampled_from([None, "random", "stratified", "grouped", "time", "hash"]))
    raw["splits"] = {"by": by, "column": data.draw(st.sampled_from(names))}
    kinds = st.sampled_from([None, "numeric", "categorical", "text", "boolean", "time"])
    raw["columns"] = {"a": {"kind": data.draw(kinds)}}
    try:
        opened = build(DataConfig, raw).load(folder)
        if opened.card.modality != "tabular":
            return
        made = fit_tabular(opened, "train", LocalDoor())
        for split in opened.splits:
            features = made.encode(opened.rows(split)).arrays["features"]
            assert np.isfinite(features).all()
            assert features.shape == (opened.size(split), made.width)
            assert len(opened.ids(split)) == len(opened.targets(split)) == len(features)
    except AssayError as error:
        assert "\n" not in error.line()
        assert error.mend


@given(st.data())
@settings(max_examples=15)
def test_rows_to_predict_are_encoded_or_refused(data: st.DataObject) -> None:
    made = TabularPreprocessing.model_validate(
        {
            "columns": [
                {"name": "a", "kind": "numeric", "missing": True},
                {"name": "b", "kind": "categorical", "categories": ["u", "1"]},
                {"name": "c", "kind": "boolean"},
                {"name": "d", "kind": "time"},
            ]
        }
    )
    table = pa.table({name: data.draw(columns(rows=3)) for name in "abcd"})
    try:
        features = made.encode(table).arrays["features"]
        assert np.isfinite(features).all()
        assert features[:, 2:5].sum(axis=1).tolist() == [1, 1, 1]
    except AssayError as error:
        assert "\n" not in error.line()
