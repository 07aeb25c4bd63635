"""The most confident mistakes as rows of text and pictures; never of private data."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from assay.audit.measures.examples import examples
from assay.data.images import raw_column


class Data:
    """As much of a data set as is looked at."""

    def __init__(self, table: pa.Table, text: tuple[str, ...], image: tuple[str, ...]) -> None:
        self.table = table
        self.schema = self
        self.card = self
        self.private = False
        self._columns = (text, image)

    def text_columns(self) -> tuple[str, ...]:
        return self._columns[0]

    def image_columns(self) -> tuple[str, ...]:
        return self._columns[1]

    def positions(self, split: str) -> Any:
        return np.array([2, 0, 1])

    def size(self, split: str) -> int:
        return 3

    def ids(self, split: str) -> list[int]:
        return [102, 100, 101]


def wrong(*ids: int) -> list[dict[str, Any]]:
    return [{"id": i, "label": "a", "prediction": "b", "probability": 0.9} for i in ids]


def shown(data: Any, mistakes: list[dict[str, Any]]) -> Any:
    return examples(data, "test", mistakes)


def opened(address: str) -> Image.Image:
    head, _, body = address.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def test_text_of_the_rows_that_were_wrong() -> None:
    data = Data(pa.table({"t": ["zero", "one", None], "u": ["0", None, "2"]}), ("t", "u"), ())
    found = shown(data, wrong(102, 100))
    assert found == {
        "split": "test",
        "rows": [
            {"id": 102, "label": "a", "predicted": "b", "confidence": 0.9, "text": "2",
             "image": None},
            {"id": 100, "label": "a", "predicted": "b", "confidence": 0.9, "text": "zero 0",
             "image": None},
        ],
    }  # fmt: skip


def test_tiny_pictures_grow_by_whole_pixels() -> None:
    pixels = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8)
    data = Data(pa.table({"i": raw_column(pixels)}), (), ("i",))
    (row,) = shown(data, wrong(101))["rows"]
    image = opened(row["image"])
    assert image.size == (96, 96)
    np.testing.assert_array_equal(np.asarray(image)[::12, ::12], pixels[1])
    assert row["text"] is None


def test_large_pictures_shrink_and_damaged_ones_are_left_out() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (400, 200), (250, 10, 10)).save(stream, "JPEG")
    data = Data(pa.table({"i": pa.array([stream.getvalue(), b"no", None])}), (), ("i",))
    rows = shown(data, wrong(100, 101, 102))["rows"]
    assert opened(rows[0]["image"]).size == (96, 48)
    assert [row["image"] for row in rows[1:]] == [None, None]


def test_at_most_twelve() -> None:
    table = pa.table({"t": ["x"] * 3})
    assert len(shown(Data(table, ("t",), ()), wrong(*[100] * 20))["rows"]) == 12


@pytest.mark.parametrize("why", ["private", "right", "tabular", "ids"])
def test_nothing_to_show(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Data(pa.table({"t": ["x", "y", "z"]}), () if why == "tabular" else ("t",), ())
    data.private = why == "private"
    if why == "ids":
        monkeypatch.setattr(data, "ids", lambda split: [100, 100, 100])
    assert shown(data, [] if why == "right" else wrong(100)) is None


def test_a_run_keeps_them(workspace: Path) -> None:
    import json

    from assay.cli import invoke

    Path("r.yaml").write_text(
        "model: cnn\ndata: digit-images\nseed: 0\nstages:\n- finetune: {epochs: 1}\n"
        "- audit: {quality: {bootstrap: 0, baselines: false}}\n"
    )
    assert invoke(["run", "r.yaml", "--out", "run"]) == 0
    kept = json.loads(Path("run/evidence/1-mistakes.json").read_text())
    quality = json.loads(Path("run/evidence/1-quality.json").read_text())
    assert [row["id"] for row in kept["rows"]] == [
        row["id"] for row in quality["mistakes"][: len(kept["rows"])]
    ]
    assert all(opened(row["image"]).size == (96, 96) for row in kept["rows"])
