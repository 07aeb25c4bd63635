"""Reading tables: CSV, TSV, Parquet, Arrow and Feather, JSON lines, Hugging Face folders.

pyarrow is the columnar library. It reads all of these with one dependency, maps Arrow and Parquet
into memory instead of copying them, keeps text as bytes instead of objects, has missing values of
its own for every type, and gives the same bytes in every process. polars would add a second
columnar format beside the one that Hugging Face and Parquet use; `datasets` pulls pandas, a cache
in the home folder and network code that assay must not have at its core.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.data.config import SPLIT_NAMES
from assay.data.image_folders import (
    bytes_of_images,
    is_image_folder,
    read_image_folder,
    with_images,
)
from assay.data.schema import Override, check_names
from assay.data.source import Source
from assay.errors import LoadError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

#: cells of a CSV file that say that a value is not known; "nan" is not among them: it is more
#: often a computation that failed
_UNKNOWN = ("", "NA", "N/A", "n/a", "#NA", "#N/A", "#N/A N/A", "NULL", "null")

#: largest block of JSON lines parsed at once, in bytes
_BLOCK = 1 << 28


def read(path: Path) -> Source:
    """Read a file, a folder with one file a split, or a Hugging Face folder.

    Raises:
        LoadError: it is missing, of no known kind, damaged, or two columns share a name.
    """
    _check_there(path)
    if path.is_dir():
        return _folder(path)
    table = table_of(path)
    if table.num_rows == 0:
        raise LoadError("the file has no rows", where=str(path), mend="give it some")
    return Source(table)


def _check_there(path: Path) -> None:
    """Refuse a path that leads nowhere, or that may not be followed."""
    with _readable(path):
        if path.exists():
            return
        near = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
    hint = did_you_mean(path.name, near)
    raise LoadError(
        "no such file or folder",
        where=str(path),
        mend=hint if hint.startswith("did") else "correct the path",
    )


def table_of(path: Path) -> pa.Table:
    """The table in one file, by its ending.

    Raises:
        LoadError: the ending is unknown, or the file cannot be read as what it says it is.
    """
    reader = _reader(path)
    if reader is None:
        raise LoadError(
            f"no reader for files that end in {path.suffix!r}",
            where=str(path),
            mend="one of: " + ", ".join(sorted(_READERS)),
        )
    _check_there(path)
    if path.is_dir():
        raise LoadError("is a folder, not a file", where=str(path), mend="name a file in it")
    if path.stat().st_size == 0:
        raise LoadError("the file is empty", where=str(path), mend="give it rows")
    with _readable(path):
        table = reader(path)
        # names are decoded only when they are asked for
        check_names(table.column_names, str(path))
    return with_images(table, path)


def _reader(path: Path) -> Callable[[Path], pa.Table] | None:
    name = path.name.lower().removesuffix(".gz")
    return next((reader for ending, reader in _READERS.items() if name.endswith(ending)), None)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn whatever a reader raises into one line."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError) or "utf8" in str(error).lower():
            raise _not_utf8(path) from None
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise LoadError(
            f"cannot be read: {reason[:200]}", where=str(path), mend="restore or convert the file"
        ) from None


def _not_utf8(path: Path) -> LoadError:
    """Where the first byte stands that is not UTF-8."""
    place = ""
    if not path.name.endswith(".gz"):
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    line.decode()
                except UnicodeDecodeError:
                    place = f", first in line {number}"
                    break
    return LoadError(
        f"the file is not UTF-8{place}",
        where=str(path),
        mend="convert it, for example with: iconv -f latin1 -t utf-8",
    )


def _csv(path: Path, delimiter: str | None = None) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv

    table = csv.read_csv(
        path,
        parse_options=csv.ParseOptions(
            delimiter=delimiter or _delimiter(path), newlines_in_values=True
        ),
        convert_options=csv.ConvertOptions(strings_can_be_null=True, null_values=list(_UNKNOWN)),
    )
    for field in table.schema:
        if pa.types.is_binary(field.type):
            raise _not_utf8(path)
    return table


def _delimiter(path: Path) -> str:
    """A semicolon or a tab where the header has more of them than commas."""
    import pyarrow as pa

    with pa.input_stream(str(path)) as stream:
        header = stream.read(65_536).split(b"\n", 1)[0]
    counts = {sign: header.count(sign.encode()) for sign in (",", ";", "\t")}
    return max(counts, key=lambda sign: counts[sign])


def _tsv(path: Path) -> pa.Table:
    return _csv(path, "\t")


def _parquet(path: Path) -> pa.Table:
    from pyarrow import parquet

    return parquet.ParquetFile(path, memory_map=True).read()


def _arrow(path: Path) -> pa.Table:
    """An IPC file, else an IPC stream; mapped, not copied."""
    import pyarrow as pa
    from pyarrow import ipc

    with path.open("rb") as stream:
        magic = stream.read(6)
    if magic == b"ARROW1":
        return ipc.open_file(pa.memory_map(str(path))).read_all()
    return ipc.open_stream(pa.memory_map(str(path))).read_all()


def _jsonl(path: Path) -> pa.Table:
    from pyarrow import json as arrow_json

    block = min(max(path.stat().st_size + 1, 1 << 20), _BLOCK)
    return arrow_json.read_json(path, read_options=arrow_json.ReadOptions(block_size=block))


_READERS: dict[str, Callable[[Path], Any]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".feather": _arrow,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
}


def _folder(path: Path) -> Source:
    if (path / "dataset_dict.json").is_file():
        names = _json(path / "dataset_dict.json").get("splits")
        if not isinstance(names, list) or not names:
            raise LoadError(
                "names no splits",
                where=str(path / "dataset_dict.json"),
                mend="save the data set again",
            )
        return _joined({str(n): _hugging_face(path / str(n)) for n in names}, path)
    if (path / "state.json").is_file():
        table, columns = _hugging_face(path)
        if table.num_rows == 0:
            raise LoadError("the data set has no rows", where=str(path), mend="give it some")
        return Source(table, columns)
    files = {p.name.split(".")[0]: p for p in sorted(path.iterdir()) if _reader(p) is not None}
    if not any(SPLIT_NAMES.get(name, name) == "train" for name in files):
        if is_image_folder(path):
            return read_image_folder(path)
        raise LoadError(
            "the folder is no saved Hugging Face data set, and holds neither a train file nor "
            "folders of pictures",
            where=str(path),
            mend="name a file, put train.csv (and test.csv) into the folder, or one folder of "
            "pictures for each class",
        )
    return _joined({name: (table_of(file), {}) for name, file in files.items()}, path)


def _joined(parts: Mapping[str, tuple[pa.Table, Mapping[str, Override]]], path: Path) -> Source:
    """One table with given splits from a table a split."""
    import numpy as np
    import pyarrow as pa

    splits, tables, start = {}, [], 0
    columns: dict[str, Override] = {}
    first = next(iter(parts.values()))[0].column_names
    for raw, (table, known) in parts.items():
        name = SPLIT_NAMES.get(raw, raw)
        if name in splits:
            raise LoadError(
                f"two of its splits are {name!r}", where=str(path), mend="keep one of them"
            )
        if set(table.column_names) != set(first):
            odd = sorted(set(table.column_names) ^ set(first))
            raise LoadError(
                f"the splits differ in the column {odd[0]!r}",
                where=f"{path}: {raw}",
                mend="give all splits the same columns",
            )
        splits[name] = np.arange(start, start + table.num_rows, dtype=np.int64)
        start += table.num_rows
        tables.append(table.select(first).replace_schema_metadata(None))
        columns.update(known)
    with _readable(path):
        joined = pa.concat_tables(tables, promote_options="permissive")
    if joined.num_rows == 0:
        raise LoadError("the splits have no rows", where=str(path), mend="give them some")
    return Source(joined, columns, splits)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise LoadError(
            f"cannot be read: {error}", where=str(path), mend="save the data set again"
        ) from None
    if not isinstance(value, dict):
        raise LoadError("is no JSON object", where=str(path), mend="save the data set again")
    return value


def _hugging_face(folder: Path) -> tuple[pa.Table, dict[str, Override]]:
    """A folder written by `datasets.Dataset.save_to_disk`, its files mapped, not copied.

    Class labels are stored as integers beside their names: they become their names.
    """
    import pyarrow as pa
    from pyarrow import ipc

    state = _json(folder / "state.json")
    if state.get("_indices_data_files"):
        raise LoadError(
            "its rows are named by a separate index",
            where=str(folder),
            mend="call flatten_indices() and save the data set again",
        )
    names = [item.get("filename") for item in state.get("_data_files") or []]
    tables = []
    for name in names:
        # only files of this very folder: a state.json from elsewhere could name any
        file = folder / Path(str(name)).name
        if not file.is_file():
            raise LoadError("the file is missing", where=str(file), mend="save the data set again")
        with _readable(file):
            tables.append(ipc.open_stream(pa.memory_map(str(file))).read_all())
    if not tables:
        raise LoadError(
            "names no data files", where=str(folder / "state.json"), mend="save the data set again"
        )
    table = pa.concat_tables(tables).replace_schema_metadata(None)
    check_names(table.column_names, str(folder))
    info = _json(folder / "dataset_info.json") if (folder / "dataset_info.json").is_file() else {}
    columns: dict[str, Override] = {}
    for name, feature in (info.get("features") or {}).items():
        if not isinstance(feature, dict) or name not in table.column_names:
            continue
        if feature.get("_type") == "Image":
            table = bytes_of_images(table, name, folder)
            columns[name] = Override(kind="image", role="feature")
        if feature.get("_type") == "ClassLabel" and feature.get("names"):
            words = [str(word) for word in feature["names"]]
            table = _named(table, name, words, folder)
            columns[name] = Override(kind="categorical", categories=tuple(words))
    return table, columns


def _named(table: pa.Table, name: str, words: list[str], folder: Path) -> pa.Table:
    """The table with a column of class numbers as names; -1 stands for an unknown class."""
    import pyarrow as pa
    import pyarrow.compute as pc

    codes = table.column(name).cast(pa.int64())
    codes = pc.if_else(pc.equal(codes, -1), pa.scalar(None, pa.int64()), codes)
    highest = pc.max(codes).as_py()
    if highest is not None and (pc.min(codes).as_py() < 0 or highest >= len(words)):
        raise LoadError(
            f"column {name!r} holds class {highest} of {len(words)}",
            where=str(folder),
            mend="save the data set again",
        )
    named = pc.take(pa.array(words, type=pa.string()), codes)
    return table.set_column(table.column_names.index(name), name, named)
