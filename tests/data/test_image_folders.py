"""Folders of images, Hugging Face's image data sets, and tables that hold images."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from assay.config import build
from assay.data.config import DataConfig
from assay.data.dataset import Dataset
from assay.data.preprocessing import image_preprocessing
from assay.errors import AssayError, LoadError, UsageError
from assay.tasks.base import infer

RNG = np.random.default_rng(0)


def png(seed: int = 0) -> bytes:
    stream = io.BytesIO()
    array = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(array).save(stream, format="PNG")
    return stream.getvalue()


def fill(root: Path, *classes: str, n: int = 10) -> None:
    for i, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for j in range(n):
            (root / name / f"{j}.png").write_bytes(png(100 * i + j))


def load(path: Path, **settings: Any) -> Dataset:
    config = build(DataConfig, {"path": path.name, **settings})
    return config.load(path.parent)


def refused(path: Path, **settings: Any) -> str:
    with pytest.raises(AssayError) as caught:
        load(path, **settings)
    return caught.value.line().replace(f"{path.parent}/", "")


# -- folders -------------------------------------------------------------------------------------


def test_a_folder_a_class(tmp_path: Path) -> None:
    root = tmp_path / "pets.v2"
    fill(root, "dog", "cat")
    (root / "cat" / "notes.txt").write_text("no picture")
    (root / ".cache").mkdir()
    (root / "cat" / ".hidden.png").write_bytes(b"")
    Image.new("L", (3, 3)).save(root / "dog" / "A.JPG", format="JPEG")
    config = build(DataConfig, {"path": root.name})
    data = config.load(tmp_path)
    assert data.classes == ("cat", "dog")
    assert data.inferred == ()
    assert data.schema.image_columns() == ("image",)
    assert (data.schema.label, data.schema.id) == ("label", "file")
    assert data.table["file"].to_pylist() == [
        *(f"cat/{i}.png" for i in range(10)),
        *(f"dog/{i}.png" for i in range(10)),
        "dog/A.JPG",
    ]
    assert {name: data.size(name) for name in data.splits} == {"train": 15, "valid": 2, "test": 4}
    # what a plan knows before anything is opened
    card = config.card(tmp_path)
    assert (card.modality, card.label, card.splits) == ("image", "label", tuple(data.splits))
    assert infer(card).part_name == infer(data.schema).part_name == "image-classification"
    named = build(DataConfig, {"path": root.name, "label": "label"})
    assert named.card(tmp_path).modality == "image"
    assert named.load(tmp_path).digest == data.digest
    pixels = image_preprocessing(data, 6).encode(data.table.slice(0, 1)).arrays["pixels"]
    np.testing.assert_array_equal(
        pixels[0].transpose(1, 2, 0), np.asarray(Image.open(io.BytesIO(png(100))))
    )


def test_folders_of_splits(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    fill(root / "train", "cat", "dog")
    fill(root / "Test", "cat", "dog", n=3)
    config = build(DataConfig, {"path": "pets"})
    data = config.load(tmp_path)
    assert {name: data.size(name) for name in data.splits} == {"train": 18, "valid": 2, "test": 6}
    assert all(str(name).startswith("Test/") for name in data.ids("test"))
    assert config.card(tmp_path).splits == ("train", "valid", "test")
    no_more = build(DataConfig, {"path": "pets", "splits": {"valid": 0, "test": 0}})
    assert no_more.card(tmp_path).splits == ("train", "test")
    assert tuple(no_more.load(tmp_path).splits) == ("train", "test")
    fill(root / "val", "cat", "dog", n=1)
    data = load(root)
    assert {name: data.size(name) for name in data.splits} == {"train": 20, "valid": 2, "test": 6}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    fill(tmp_path / "toys", "train", "car")
    assert load(tmp_path / "toys").classes == ("car", "train")


def test_tables_come_first(tmp_path: Path) -> None:
    root = tmp_path / "t"
    fill(root, "figures")
    (root / "train.csv").write_text("a,y\n" + "".join(f"{i}.5,{i % 2}\n" for i in range(40)))
    assert load(root, label="y").card.modality == "tabular"


def test_folders_that_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    fill(root, "cat", "dog")
    (root / "stray.png").write_bytes(png())
    assert refused(root) == (
        "pets/stray.png: the picture lies in no class's folder; "
        "move it into one, or out of the folder"
    )
    (root / "stray.png").unlink()
    (root / "cat" / "\udcff.png").write_bytes(png())
    assert "is not UTF-8" in refused(root)
    splits = tmp_path / "splits"
    fill(splits / "train", "cat", "dog")
    fill(splits / "val", "cat")
    fill(splits / "valid", "cat")
    assert refused(splits) == (
        "splits: two of its folders are the same split; keep one of: train, val, valid"
    )
    empty = tmp_path / "empty"
    fill(empty / "train", "cat", "dog")
    (empty / "test").mkdir()
    assert refused(empty).startswith("empty/test: the folder holds no pictures; put some there")
    one = tmp_path / "one"
    fill(one, "cat")
    assert "holds one class only: 'cat'" in refused(one)
    (tmp_path / "nothing").mkdir()
    assert "holds neither a train file nor folders of pictures" in refused(tmp_path / "nothing")
    assert "no such file or folder" in refused(tmp_path / "missing")


# -- bad pictures --------------------------------------------------------------------------------


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    root = tmp_path / "pets"
    fill(root, "cat", "dog")
    (root / "cat" / "3.png").write_bytes(b"hello")
    stream = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(stream, "JPEG")
    (root / "dog" / "x.jpg").write_bytes(stream.getvalue()[:1000])
    return root


def test_a_bad_picture_is_named(bad: Path) -> None:
    assert refused(bad) == (
        "pets: picture cat/3.png: it is no picture of a known kind, or its head is damaged; "
        "replace the picture, or leave it out (in a recipe: 'data: {drop_undecodable: true}')"
    )
    # a picture that breaks off shows when it is decoded
    (bad / "cat" / "3.png").unlink()
    data = load(bad)
    with pytest.raises(LoadError, match=r"data: picture dog/x\.jpg: it is damaged: "):
        image_preprocessing(data).encode(data.table)


def test_bad_pictures_are_left_out(bad: Path) -> None:
    data = load(bad, drop_undecodable=True)
    assert data.left_out == 2
    assert data.card.rows == 19
    assert not {"cat/3.png", "dog/x.jpg"} & set(data.table["file"].to_pylist())
    (bad / "cat" / "3.png").unlink()
    (bad / "dog" / "x.jpg").unlink()
    # what is left is the same data as if they had never been there
    assert load(bad).digest == data.digest
    assert load(bad, drop_undecodable=True).left_out == 0


def test_given_splits_are_kept_where_rows_are_left_out(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    fill(root / "train", "cat", "dog")
    fill(root / "test", "cat", "dog", n=3)
    (root / "train" / "cat" / "0.png").write_bytes(b"hello")
    (root / "test" / "dog" / "1.png").write_bytes(b"hello")
    data = load(root, drop_undecodable=True)
    assert data.left_out == 2
    assert data.ids("test") == [
        *(f"test/cat/{i}.png" for i in range(3)),
        *(f"test/dog/{i}.png" for i in (0, 2)),
    ]


def test_nothing_to_leave_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no column of pictures"):
        build(DataConfig, {"name": "digits", "drop_undecodable": True}).load(tmp_path)
    root = tmp_path / "pets"
    fill(root, "cat", "dog", n=2)
    for file in root.rglob("*.png"):
        file.write_bytes(b"hello")
    assert "none of its pictures can be decoded" in refused(root, drop_undecodable=True)


# -- Hugging Face and tables ---------------------------------------------------------------------

CELL = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def table(n: int = 20) -> pa.Table:
    cells = [{"bytes": png(i), "path": f"{i}.png"} for i in range(n)]
    return pa.table({"img": pa.array(cells, CELL), "label": [i % 2 for i in range(n)]})


def saved(folder: Path, rows: pa.Table) -> None:
    """As `datasets.Dataset.save_to_disk` writes it."""
    folder.mkdir(parents=True)
    with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", rows.schema) as writer:
        writer.write_table(rows)
    features = {
        "img": {"_type": "Image"},
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    }
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))


def test_a_data_set_saved_by_hugging_face(tmp_path: Path) -> None:
    saved(tmp_path / "hf", table())
    data = load(tmp_path / "hf", label="label")
    assert data.schema.image_columns() == ("img",)
    assert data.classes == ("cat", "dog")
    assert data.inferred == ()
    assert data.table["img"].to_pylist() == [png(i) for i in range(20)]
    assert data.card.modality == "image"
    # what a plan knows: the description says which columns are pictures
    known = build(DataConfig, {"path": "hf", "label": "label"})
    assert known.card(tmp_path).modality == "image"
    without = build(DataConfig, {"path": "hf", "label": "label", "drop": ["img"]})
    assert without.card(tmp_path).modality == "tabular"
    (tmp_path / "hf" / "dataset_info.json").write_text("[")
    assert known.card(tmp_path).modality == "tabular"


def test_its_splits(tmp_path: Path) -> None:
    root = tmp_path / "hf"
    saved(root / "train", table())
    saved(root / "test", table(6))
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    data = load(root, label="label")
    assert build(DataConfig, {"path": "hf", "label": "label"}).card(tmp_path).modality == "image"
    assert data.column("test", "img").to_pylist() == [png(i) for i in range(6)]


def test_pictures_outside_of_it(tmp_path: Path) -> None:
    rows = table()
    cells = [{"bytes": None, "path": "/elsewhere/0.png"}] * 20
    saved(tmp_path / "hf", rows.set_column(0, "img", pa.array(cells, CELL)))
    assert refused(tmp_path / "hf", label="label") == (
        "hf: column 'img': some pictures are files outside of the data set; "
        "embed them before saving (datasets.table.embed_table_storage)"
    )
    saved(tmp_path / "no", rows.set_column(0, "img", pa.array(["x"] * 20)))
    assert "column 'img' holds no pictures" in refused(tmp_path / "no", label="label")


def test_tables_that_hold_pictures(tmp_path: Path) -> None:
    parquet.write_table(table(), tmp_path / "t.parquet")
    data = load(tmp_path / "t.parquet", label="label")
    assert data.schema.image_columns() == ("img",)
    assert data.inferred == ("img", "label")
    assert infer(data.schema).part_name == "image-classification"
    said = {"path": "t.parquet", "label": "label", "columns": {"img": {"kind": "image"}}}
    assert build(DataConfig, said).card(tmp_path).modality == "image"


def test_pictures_beside_other_columns(tmp_path: Path) -> None:
    rows = table().append_column("age", pa.array(np.arange(20) + 0.5))
    parquet.write_table(rows, tmp_path / "t.parquet")
    data = load(tmp_path / "t.parquet", label="label")
    assert data.card.modality == "image"
    assert data.schema.features() == ("age",)
    # the table alone
    alone = load(tmp_path / "t.parquet", label="label", drop=["img"])
    assert alone.card.modality == "tabular"
    assert refused(tmp_path / "t.parquet", label="img").startswith(
        "t.parquet: column 'img' holds pictures and cannot be label"
    )
