from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from assay.config import build
from assay.data.config import DataConfig
from assay.data.dataset import Dataset
from assay.data.images import raw_column
from assay.data.preprocessing import ImagePreprocessing, image_preprocessing, load_preprocessing
from assay.errors import ArtefactError, LoadError, UsageError
from assay.files import read_json, write_json

GREY = np.random.default_rng(0).integers(0, 256, (6, 5, 7), dtype=np.uint8)


def png(array: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format="PNG")
    return stream.getvalue()


def table(cells: Any = None) -> pa.Table:
    names = [f"{i}.png" for i in range(len(GREY))]
    return pa.table({"photo": raw_column(GREY) if cells is None else cells, "name": names})


MADE = ImagePreprocessing(column="photo", height=5, width=7, channels=1, id="name")


def test_encoding() -> None:
    found = MADE.encode(table())
    assert MADE.inputs == {"pixels": ("uint8", 4)}
    assert found.offsets is None
    assert list(found.arrays) == ["pixels"]
    np.testing.assert_array_equal(found.arrays["pixels"], GREY[:, None])
    batch = found.batch(np.array([4, 1]))["pixels"]
    assert batch.dtype == np.uint8
    np.testing.assert_array_equal(batch, GREY[[4, 1], None])
    # the way cells are stored may differ between tables
    files = pa.array([png(a) for a in GREY])
    np.testing.assert_array_equal(MADE.encode(table(files)).arrays["pixels"], GREY[:, None])
    assert MADE.encode(table().slice(0, 0)).arrays["pixels"].shape == (0, 1, 5, 7)
    assert MADE.ids(table())[:2] == ["0.png", "1.png"]


def test_grey_becomes_colour() -> None:
    found = MADE.model_copy(update={"channels": 3}).encode(table()).arrays["pixels"]
    np.testing.assert_array_equal(found, np.repeat(GREY[:, None], 3, 1))


def test_synthetic_rows_look_like_encoded_ones() -> None:
    found = MADE.synthetic(3)
    assert list(found) == ["pixels"]
    assert found["pixels"].shape == (3, 1, 5, 7)
    assert found["pixels"].dtype == np.uint8
    assert len(np.unique(found["pixels"])) > 50


def test_it_comes_back_from_a_folder(tmp_path: Path) -> None:
    made = MADE.model_copy(update={"resize": "pad", "channels": 3})
    assert made.save(tmp_path) == ["preprocessing.json"]
    assert load_preprocessing(tmp_path) == made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": 2}, "channels: "),
        ({"height": 0}, "height: "),
        ({"width": 5000}, "width: "),
        ({"resize": "stretch"}, "resize: "),
    ],
)
def test_damaged_files(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    MADE.save(tmp_path)
    path = tmp_path / "preprocessing.json"
    write_json(path, {**read_json(path), **change})
    with pytest.raises(ArtefactError, match=message):
        load_preprocessing(tmp_path)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (pa.array(["a.png"] * 6), "the column 'photo' holds string, not pictures"),
        (pa.array([1] * 6), "the column 'photo' holds int64, not pictures"),
        (pa.array([b"a"] * 6), r"picture 0\.png: it is no picture of a known kind"),
        (pa.nulls(6), "the column 'photo' holds null, not pictures"),
        (pa.array([png(GREY[0])] * 5 + [None]), r"picture 5\.png: there is no picture"),
        (pa.array([png(GREY[0])] * 5 + [b"\x89PNG"]), r"picture 5\.png: it is "),
    ],
)
def test_rows_that_do_not_fit(cells: Any, message: str) -> None:
    with pytest.raises(LoadError, match=message):
        MADE.encode(table(cells))


def test_without_a_column_of_names_rows_are_numbered() -> None:
    cells = pa.table({"photo": pa.array([png(GREY[0]), b"\x89PNG"])})
    with pytest.raises(LoadError, match="column 'photo', row 2: it is "):
        MADE.encode(cells)
    with pytest.raises(LoadError, match="the column 'photo' is missing"):
        MADE.encode(cells.rename_columns(["x"]))


# -- from a data set -----------------------------------------------------------------------------


def opened(tmp_path: Path, **columns: Any) -> Dataset:
    """A data set of images; writing it as Arrow keeps tensors."""
    labels = ["a", "b"] * (len(GREY) * 5)
    columns = {n: pa.concat_arrays([c] * 10) for n, c in columns.items()}
    data = pa.table({**columns, "y": labels})
    with pa.ipc.new_file(tmp_path / "t.arrow", data.schema) as writer:
        writer.write_table(data)
    return build(DataConfig, {"path": "t.arrow", "label": "y"}).load(tmp_path)


@pytest.mark.parametrize(
    ("array", "given", "expected"),
    [
        (GREY, {}, (5, 7, 1)),
        (GREY, {"default": 20}, (5, 7, 1)),
        (GREY, {"size": 9}, (9, 9, 1)),
        (GREY, {"size": (4, 6), "channels": 3}, (4, 6, 3)),
        (np.repeat(GREY[..., None], 3, -1), {}, (5, 7, 3)),
        (np.repeat(GREY[..., None], 3, -1), {"channels": 1}, (5, 7, 1)),
        (GREY[..., None], {}, (5, 7, 1)),
    ],
)
def test_raw_pixels_have_a_size(tmp_path: Path, array: Any, given: Any, expected: Any) -> None:
    data = opened(tmp_path, photo=raw_column(array))
    assert data.card.modality == "image"
    made = image_preprocessing(data, **given)
    assert (made.height, made.width, made.channels) == expected
    assert (made.column, made.id) == ("photo", None)
    assert data.opened == set()


def test_files_have_the_size_that_is_asked_for(tmp_path: Path) -> None:
    data = opened(tmp_path, photo=pa.array([png(a) for a in GREY]))
    for given, side in (({}, 64), ({"default": 20}, 20), ({"default": 20, "size": 30}, 30)):
        made = image_preprocessing(data, **given)
        assert (made.height, made.width, made.channels) == (side, side, 3)


def test_one_column_is_needed(tmp_path: Path) -> None:
    table = build(DataConfig, "breast_cancer").load(tmp_path)
    with pytest.raises(LoadError, match="one column of pictures is needed, there are 0"):
        image_preprocessing(table)
    pair = {"left": raw_column(GREY), "right": raw_column(GREY)}
    with pytest.raises(UsageError, match="needs one column of pictures, and there are 2"):
        opened(tmp_path, **pair)
