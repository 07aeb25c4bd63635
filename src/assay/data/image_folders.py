"""Folders of image files: a folder a class, perhaps below a folder a split."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from assay.data.config import SPLIT_NAMES
from assay.data.schema import Override
from assay.data.source import Source
from assay.errors import LoadError

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
#: the columns that a folder becomes
IMAGE, LABEL, ID = "image", "label", "file"
_SPLITS = frozenset({"train", "valid", "test"})


def is_picture(path: Path) -> bool:
    """Whether a file is called like a picture."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def pictures(folder: Path) -> list[Path]:
    """All pictures below a folder, sorted; hidden ones are left out."""
    return sorted(
        p
        for p in folder.rglob("*")
        if is_picture(p) and not any(x.startswith(".") for x in p.relative_to(folder).parts)
    )


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def split_folders(path: Path) -> Mapping[str, Path] | None:
    """Split -> its folder, where the folders below are splits; None where they are classes."""
    folders = _folders(path)
    named = {SPLIT_NAMES.get(p.name.lower(), p.name.lower()): p for p in folders}
    if "train" not in named or not set(named) <= _SPLITS:
        return None
    if len(named) < len(folders):
        raise LoadError(
            "two of its folders are the same split",
            where=str(path),
            mend="keep one of: " + ", ".join(p.name for p in folders),
        )
    return named


def is_image_folder(path: Path) -> bool:
    """Whether a folder holds folders of classes with pictures in them."""
    if not path.is_dir():
        return False
    splits = split_folders(path)
    roots = list(splits.values()) if splits is not None else [path]
    return any(is_picture(p) for root in roots for sub in _folders(root) for p in sub.iterdir())


def is_saved_with_images(folder: Path, but: tuple[str, ...] = ()) -> bool:
    """Whether a folder saved by Hugging Face's `save_to_disk` says that it holds pictures.

    Args:
        folder: the folder.
        but: columns that do not count.
    """
    for path in sorted((*folder.glob("dataset_info.json"), *folder.glob("*/dataset_info.json"))):
        try:
            features = json.loads(path.read_bytes()).get("features") or {}
        except (OSError, ValueError, AttributeError):
            continue  # opening the data says what is wrong
        if any(
            isinstance(feature, dict) and feature.get("_type") == "Image" and name not in but
            for name, feature in features.items()
        ):
            return True
    return False


def read_image_folder(path: Path) -> Source:
    """The pictures of a folder, their classes by the folders they lie in.

    Raises:
        LoadError: a picture cannot be read, or one lies in no class.
    """
    import numpy as np
    import pyarrow as pa

    splits = split_folders(path)
    parts, sizes = [], {}
    for name, root in (splits or {"train": path}).items():
        files = pictures(root)
        loose = next((p for p in files if p.parent == root), None)
        if loose is not None:
            raise LoadError(
                "the picture lies in no class's folder",
                where=str(loose),
                mend="move it into one, or out of the folder",
            )
        sizes[name] = len(files)
        labels = [p.relative_to(root).parts[0] for p in files]
        table = table_of_pictures(files, path, root)
        parts.append(table.append_column(LABEL, pa.array(labels, pa.string())))
    table = pa.concat_tables(parts)
    ends = np.cumsum([0, *sizes.values()])
    given = {name: np.arange(ends[i], ends[i + 1], dtype=np.int64) for i, name in enumerate(sizes)}
    return Source(
        table=table,
        columns={
            IMAGE: Override(kind="image", role="feature"),
            LABEL: Override(kind="categorical", role="label"),
            ID: Override(kind="categorical", role="id"),
        },
        splits=given if splits is not None else None,
    )


def table_of_pictures(files: list[Path], root: Path, where: Path | None = None) -> pa.Table:
    """Files as a table with the columns `file` (the path below `root`) and `image` (its bytes).

    Args:
        files: the pictures.
        root: the folder below which they are named.
        where: the folder they were looked for in, for messages (default: `root`).

    Raises:
        LoadError: there is none, or one cannot be read.
    """
    import pyarrow as pa

    if not files:
        raise LoadError(
            "the folder holds no pictures",
            where=str(where or root),
            mend="put some there that end in " + ", ".join(sorted(SUFFIXES)),
        )
    data = []
    for file in files:
        try:
            data.append(file.read_bytes())
        except OSError as error:
            raise LoadError(
                f"cannot be read: {error.strerror}", where=str(file), mend="restore the file"
            ) from None
    names = [p.relative_to(root).as_posix() if p != root else p.name for p in files]
    for name in names:
        if not name.isprintable():
            raise LoadError(
                f"the name {name!r} is not UTF-8, or cannot be printed",
                where=str(root),
                mend="rename the file",
            )
    return pa.table({ID: names, IMAGE: pa.array(data, pa.large_binary())})


def with_images(table: pa.Table, path: Path) -> pa.Table:
    """The table of a file with Hugging Face's cells `{bytes, path}` as plain bytes.

    Raises:
        LoadError: a picture is a file elsewhere.
    """
    import pyarrow as pa

    for field in table.schema:
        if pa.types.is_struct(field.type) and {f.name for f in field.type} == {"bytes", "path"}:
            table = bytes_of_images(table, field.name, path)
    return table


def bytes_of_images(table: pa.Table, name: str, path: Path) -> pa.Table:
    """The table with the bytes of a column of pictures, which stand beside their paths.

    Raises:
        LoadError: the column holds no pictures, or one is a file elsewhere.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table.column(name)
    if not pa.types.is_struct(column.type) or column.type.get_field_index("bytes") < 0:
        raise LoadError(
            f"column {name!r} holds no pictures", where=str(path), mend="save the data set again"
        )
    data = pc.struct_field(column, "bytes")
    if pc.any(pc.and_(pc.is_null(data), pc.is_valid(column))).as_py():
        raise LoadError(
            f"column {name!r}: some pictures are files outside of the data set",
            where=str(path),
            mend="embed them before saving (datasets.table.embed_table_storage)",
        )
    return table.set_column(table.column_names.index(name), name, data)
