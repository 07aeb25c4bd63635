"""What a recipe leaves undeclared, known before its data are opened, and the same afterwards."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.config import build, build_part
from assay.data.config import DataConfig
from assay.data.dataset import Dataset
from assay.data.declared import TARGET, undeclared, undeclared_of
from assay.data.door import LocalDoor
from assay.data.files import table_of
from assay.data.preprocessing import fit_tabular

Load = Callable[..., Dataset]
Columns = dict[str, list[Any]]
ALL: dict[str, Any] = {
    "a": {"bounds": [0, 12]},
    "b": {"bounds": [0, 12], "missing": True},
    "colour": {"categories": ["red", "green", "blue"]},
    "flag": {"kind": "boolean", "missing": False},
}
CLASSES = build_part("task", "tabular-classification", "task")


def config(**said: Any) -> DataConfig:
    return build(DataConfig, {"path": "table.csv", "label": "y", **said}, "data")


def test_all_declared_is_nothing_read(load: Load, columns: Columns, tmp_path: Path) -> None:
    data = load(columns, columns=ALL)
    assert undeclared(config(columns=ALL), tmp_path, CLASSES) == ()
    assert undeclared_of(data) == ()
    door = LocalDoor()
    fit_tabular(data, "train", door)
    assert door.asked == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"a": {"kind": "numeric"}}, ("a",)),
        ({"b": {"missing": True}}, ("b",)),
        ({"colour": {"kind": "categorical"}}, ("colour",)),
        ({"flag": {"kind": "boolean"}}, ("flag",)),
        ({"flag": {}}, ("flag",)),
        ({"a": {"role": "drop"}}, ()),
        ({"a": {"kind": "numeric", "role": "sensitive"}}, ()),
        ({"a": {"kind": "time"}, "flag": {}}, ("a", "flag")),
    ],
)
def test_what_is_missing_is_named(
    changed: dict[str, Any], expected: tuple[str, ...], load: Load, columns: Columns, tmp_path: Path
) -> None:
    if changed.get("a", {}).get("kind") == "time":
        columns["a"] = [f"2020-01-{1 + i % 28:02}" for i in range(40)]
    said = {**ALL, **changed}
    assert undeclared(config(columns=said), tmp_path, CLASSES) is None  # no file yet
    data = load(columns, columns=said)
    assert undeclared(config(columns=said), tmp_path, CLASSES) == expected
    assert undeclared_of(data) == expected


def test_columns_with_another_role_need_no_declaration(
    load: Load, columns: Columns, tmp_path: Path
) -> None:
    columns |= {name: list(range(40)) for name in ("key", "who", "ward", "spare", "when", "sex")}
    said: dict[str, Any] = {
        "columns": ALL,
        "id": "key",
        "unit": "who",
        "site": "ward",
        "drop": ["spare"],
        "sensitive": ["sex"],
        "splits": {"by": "time", "column": "when"},
    }
    data = load(columns, **said)
    assert undeclared_of(data) == ()
    assert undeclared(config(**said), tmp_path, CLASSES) == ()
    known = {**said, "columns": {**ALL, "sex": {"role": "feature"}}}
    assert undeclared(config(**known), tmp_path, CLASSES) == ("sex",)


def test_a_column_that_nobody_named_is_read(load: Load, columns: Columns, tmp_path: Path) -> None:
    columns["extra"] = [i / 3 for i in range(40)]
    data = load(columns, columns=ALL)
    assert undeclared(config(columns=ALL), tmp_path, CLASSES) == undeclared_of(data) == ("extra",)


def test_nothing_declared_is_not_looked_into(load: Load, columns: Columns, tmp_path: Path) -> None:
    load(columns)
    assert undeclared(config(), tmp_path, CLASSES) is None


def test_targets_of_a_regression_are_read(load: Load, columns: Columns, tmp_path: Path) -> None:
    columns["y"] = [i / 7 for i in range(40)]
    data = load(columns, columns=ALL)
    task = build_part("task", "tabular-regression", "task")
    assert undeclared_of(data) == (TARGET,)
    assert undeclared(config(columns=ALL), tmp_path, task) == (TARGET,)
    assert undeclared(config(columns=ALL), tmp_path, None) == (TARGET,)
    named = config(columns=ALL, classes=["no", "yes"])
    assert undeclared(named, tmp_path, None) == ()
    said = config(columns={**ALL, "y": {"kind": "categorical"}})
    assert undeclared(said, tmp_path, None) == ()


NAMES = ["a", "b, c", 'say "d"', "é\tf", "two\nlines", " g ", "y"]
TABLE = pa.table({name: [1, 2, 3] for name in NAMES})


@pytest.mark.parametrize(
    ("name", "sign"),
    [("t.csv", ","), ("t.csv", ";"), ("t.csv", "\t"), ("t.tsv", "\t"), ("t.csv.gz", ",")],
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_header_is_read_as_the_file_is(name: str, sign: str, mark: bytes, tmp_path: Path) -> None:
    names = [n for n in NAMES if "\n" not in n and (sign == "," or "," not in n)]
    quoted = sign.join('"' + n.replace('"', '""') + '"' for n in names)
    rows = "\n".join(sign.join(str(i) for _ in names) for i in range(9000))
    text = mark + f"{quoted}\n{rows}\n".encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    found = undeclared(config(path=name, columns={"y": {"role": "label"}}), tmp_path, CLASSES)
    assert found == tuple(table_of(tmp_path / name).column_names[:-1]) == tuple(names[:-1])


def test_other_files_tell_their_columns_or_nothing(tmp_path: Path) -> None:
    pa.parquet.write_table(TABLE, tmp_path / "t.parquet")
    pa.feather.write_feather(TABLE, str(tmp_path / "t.feather"))
    with pa.ipc.new_stream(str(tmp_path / "t.arrow"), TABLE.schema) as stream:
        stream.write_table(TABLE)
    (tmp_path / "t.jsonl").write_text(json.dumps(dict.fromkeys(NAMES, 1)) + "\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.csv").touch()
    (tmp_path / "long.csv").write_bytes(b"a," * 40_000)
    (tmp_path / "latin.csv").write_bytes(b"\xe9,y\n1,2\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (tmp_path / "broken.csv.gz").write_bytes(b"\x1f\x8b\x08")
    said = {"y": {"role": "label"}}
    for name in ("t.parquet", "t.feather", "t.arrow"):
        assert undeclared(config(path=name, columns=said), tmp_path, CLASSES) == tuple(NAMES[:-1])
    for name in ("t.jsonl", "folder", "long.csv", "latin.csv", "broken.parquet", "broken.csv.gz"):
        assert undeclared(config(path=name, columns=said), tmp_path, CLASSES) is None, name
    assert undeclared(config(path="empty.csv", columns=said), tmp_path, CLASSES) == ()


def test_a_sample_is_opened_for_its_names() -> None:
    said = {"mean radius": {"bounds": [0, 40]}}
    sample = build(DataConfig, {"name": "breast_cancer", "columns": said}, "data")
    found = undeclared(sample, Path(), CLASSES)
    assert found is not None
    assert undeclared_of(sample.load(Path())) == found
    every = {**said, **{name: {"bounds": [0, 5000]} for name in found}}
    whole = build(DataConfig, {"name": "breast_cancer", "columns": every}, "data")
    assert undeclared(whole, Path(), CLASSES) == undeclared_of(whole.load(Path())) == ()


said_of = st.fixed_dictionaries(
    {},
    optional={
        "a": st.sampled_from([{"bounds": [0, 12]}, {"kind": "numeric"}, {"missing": False}]),
        "b": st.sampled_from([{"bounds": [0, 12], "missing": True}, {"missing": True}]),
        "colour": st.sampled_from([{"categories": ["red"]}, {"kind": "categorical"}]),
        "flag": st.sampled_from(
            [{"kind": "boolean", "missing": False}, {"missing": False}, {"categories": ["yes"]}]
        ),
    },
)


@given(said_of, st.lists(st.sampled_from(["a", "b", "colour", "flag"]), max_size=3, unique=True))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_the_plan_never_promises_more_than_fitting_keeps(
    load: Load, columns: Columns, tmp_path: Path, said: dict[str, Any], drop: list[str]
) -> None:
    """What is planned to be read is what is read, whatever is declared."""
    data = load(columns, columns=said, drop=drop)
    planned = undeclared(config(columns=said, drop=drop), tmp_path, CLASSES)
    exact = undeclared_of(data)
    assert planned == (None if not said else exact)
    door = LocalDoor()
    fit_tabular(data, "train", door)
    if not exact:
        assert door.asked == []
    if door.asked:
        assert exact
