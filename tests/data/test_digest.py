from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from assay.config import build
from assay.data.config import DataConfig
from assay.data.dataset import Dataset
from assay.data.digest import content_digest, dataset_digest
from assay.data.schema import Column, Schema

Load = Callable[..., Dataset]
Columns = dict[str, list[Any]]

SCHEMA = Schema(
    columns={
        "n": Column(kind="numeric"),
        "s": Column(kind="categorical"),
        "x": Column(kind="numeric"),
        "gone": Column(kind="numeric", role="drop"),
    }
)


def table(**changes: Any) -> pa.Table:
    columns = {
        "n": pa.array([1, None, 3]),
        "s": pa.array(["a", None, "é"]),
        "x": pa.array([0.0, 2.5, None]),
        "gone": pa.array([1, 2, 3]),
    }
    return pa.table({**columns, **changes})


def test_storage_does_not_change_it() -> None:
    plain = content_digest(table(), SCHEMA)
    assert plain == "bdf3f6bb6feaf9aac7766dbb93f733f35602acb81766114faf28be61124f780f"
    chunks = pa.concat_tables([table().slice(0, 1), table().slice(1)])
    assert content_digest(chunks, SCHEMA) == plain
    for changes in (
        {"s": pa.array(["a", None, "é"]).dictionary_encode()},
        {"s": pa.array(["a", None, "é"], type=pa.large_string())},
        {"n": pa.array([1, None, 3], type=pa.int8())},
        {"x": pa.array([-0.0, 2.5, float("nan")])},
        {"x": pa.array([0.0, 2.5, None], type=pa.float32())},
        {"gone": pa.array([9, 9, 9])},
    ):
        assert content_digest(table(**changes), SCHEMA) == plain


def test_any_change_of_content_changes_it() -> None:
    digests = {content_digest(table(), SCHEMA)}
    for changes in (
        {"n": pa.array([1, 0, 3])},
        {"s": pa.array(["a", "", "é"])},
        {"s": pa.array(["aé", None, ""])},
        {"x": pa.array([0.0, 2.5, 0.0])},
        {"x": pa.array([0.0, None, 2.5])},
    ):
        digests.add(content_digest(table(**changes), SCHEMA))
    digests.add(content_digest(table().slice(0, 2), SCHEMA))
    other = Schema(columns={**SCHEMA.columns, "s": Column(kind="categorical", sensitive=True)})
    digests.add(content_digest(table(), other))
    assert len(digests) == 8


def test_splits_and_key_are_part_of_it() -> None:
    splits = {"train": np.array([0, 1]), "test": np.array([2])}
    digests = {
        dataset_digest("c", splits),
        dataset_digest("d", splits),
        dataset_digest("c", {**splits, "test": np.array([3])}),
        dataset_digest("c", {"train": splits["train"], "valid": splits["test"]}),
        dataset_digest("c", splits, key=b"k"),
        dataset_digest("c", splits, key=b"l"),
    }
    assert len(digests) == 6
    assert dataset_digest("c", dict(reversed(splits.items()))) in digests


def test_a_csv_and_a_parquet_file_agree(load: Load, columns: Columns, tmp_path: Path) -> None:
    first = load(columns)
    parquet.write_table(pa.table(columns), tmp_path / "table.parquet", row_group_size=7)
    second = build(DataConfig, {"path": "table.parquet", "label": "y"}).load(tmp_path)
    assert second.digest == first.digest


@pytest.mark.parametrize("seed", [1, 2])
def test_another_split_is_another_digest(load: Load, columns: Columns, seed: int) -> None:
    assert load(columns, splits={"seed": seed}).digest != load(columns).digest
