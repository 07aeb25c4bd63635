from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import feather, ipc, parquet

from assay.data.files import read, table_of
from assay.errors import LoadError

SAVED = Path(__file__).parent / "saved"
TABLE = pa.table(
    {
        "n": [1, 2, None],
        "x": [0.5, None, 2.0],
        "word": ["a", None, "c, d"],
        "text": ["one\nline", "é", "三"],
    }
)


def csv(path: Path) -> None:
    path.write_text('n,x,word,text\n1,0.5,a,"one\nline"\n2,,,é\n,2.0,"c, d",三\n', "utf-8")


def semicolons(path: Path) -> None:
    path.write_text('n;x;word;text\n1;0.5;a;"one\nline"\n2;;;é\n;2.0;c, d;三\n', "utf-8")


def tsv(path: Path) -> None:
    path.write_text(
        'n\tx\tword\ttext\n1\t0.5\ta\t"one\nline"\n2\t\t\té\n\t2.0\tc, d\t三\n', "utf-8"
    )


def zipped(path: Path) -> None:
    csv(path)
    path.write_bytes(gzip.compress(path.read_bytes()))


def jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in TABLE.to_pylist()), "utf-8")


def arrow(path: Path) -> None:
    with ipc.new_file(str(path), TABLE.schema) as sink:
        sink.write_table(TABLE)


def stream(path: Path) -> None:
    with ipc.new_stream(str(path), TABLE.schema) as sink:
        sink.write_table(TABLE)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("t.csv", csv),
        ("t.CSV", semicolons),
        ("t.tsv", tsv),
        ("t.csv.gz", zipped),
        ("t.jsonl", jsonl),
        ("t.ndjson", jsonl),
        ("t.parquet", lambda path: parquet.write_table(TABLE, path)),
        ("t.arrow", arrow),
        ("t.arrow", stream),
        ("t.feather", lambda path: feather.write_feather(TABLE, str(path))),
    ],
)
def test_every_format_gives_the_same_table(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / name)
    source = read(tmp_path / name)
    assert source.table.to_pylist() == TABLE.to_pylist()
    assert source.splits is None


def test_arrow_is_mapped_and_not_copied(tmp_path: Path) -> None:
    table = pa.table({"x": list(range(100_000))})
    with ipc.new_file(str(tmp_path / "t.arrow"), table.schema) as sink:
        sink.write_table(table)
    before = pa.total_allocated_bytes()
    kept = read(tmp_path / "t.arrow").table
    assert pa.total_allocated_bytes() - before < 10_000
    assert kept.num_rows == 100_000


def test_a_folder_saved_by_hugging_face() -> None:
    source = read(SAVED / "one")
    assert source.table.column("label").to_pylist() == ["good", "bad"] * 3
    assert source.table.column("sentence")[1].as_py().startswith("Stale crackers")
    assert source.columns["label"].categories == ("good", "bad")
    assert source.splits is None


def test_a_dict_of_splits_saved_by_hugging_face() -> None:
    source = read(SAVED / "dict")
    assert source.splits is not None
    assert {name: rows.tolist() for name, rows in source.splits.items()} == {
        "train": [0, 1, 2, 3],
        "valid": [4],
        "test": [5],
    }


def test_a_folder_with_one_file_a_split(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a,y\n1,u\n2,v\n")
    (tmp_path / "validation.csv").write_text("y,a\nu,3.5\n")
    (tmp_path / "notes.txt").write_text("not a table")
    source = read(tmp_path)
    assert source.table.to_pylist() == [
        {"a": 1.0, "y": "u"},
        {"a": 2.0, "y": "v"},
        {"a": 3.5, "y": "u"},
    ]
    assert source.splits is not None
    assert {name: rows.tolist() for name, rows in source.splits.items()} == {
        "train": [0, 1],
        "valid": [2],
    }


def refused(path: Path) -> str:
    with pytest.raises(LoadError) as caught:
        read(path)
    assert caught.value.exit_code == 4
    assert "\n" not in caught.value.line()
    return caught.value.line().replace(str(path.parent) + "/", "")


def test_missing_file(tmp_path: Path) -> None:
    (tmp_path / "loans.csv").write_text("a\n1\n")
    assert refused(tmp_path / "loan.csv") == (
        "loan.csv: no such file or folder; did you mean 'loans.csv'?"
    )
    assert refused(tmp_path / "no" / "x.csv") == "x.csv: no such file or folder; correct the path"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "t.csv: the file is empty; give it rows"),
        ("t.csv", b"a,b\n", "t.csv: the file has no rows; give it some"),
        ("t.csv", b"a,a\n1,2\n", "t.csv: two columns are called 'a'; rename one of them"),
        (
            "t.csv",
            b"a,b\n1,x\n2,caf\xe9\n",
            (
                "t.csv: the file is not UTF-8, first in line 3; convert it, for example with: "
                "iconv -f latin1 -t utf-8"
            ),
        ),
        (
            "t.csv",
            b"pr\xe9nom,b\n1,x\n",
            (
                "t.csv: the file is not UTF-8, first in line 1; convert it, for example with: "
                "iconv -f latin1 -t utf-8"
            ),
        ),
        (
            "t.csv",
            b"a,b\n1,2\n3\n",
            (
                "t.csv: cannot be read: CSV parse error: Expected 2 columns, got 1: 3; "
                "restore or convert the file"
            ),
        ),
        (
            "t.xlsx",
            b"PK",
            (
                "t.xlsx: no reader for files that end in '.xlsx'; one of: .arrow, .csv, .feather, "
                ".jsonl, .ndjson, .parquet, .tsv"
            ),
        ),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert refused(tmp_path / name) == message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.parquet", b"PAR1 and nothing else"),
        ("t.arrow", b"ARROW1\0\0broken"),
        ("t.arrow", b"neither file nor stream"),
        ("t.feather", b"FEA1 is the old format"),
        ("t.jsonl", b'{"a": 1}\n{"a": \n'),
        ("t.jsonl", b'{"a": 1}\n{"a": "word"}\n'),
        ("t.csv.gz", b"not gzip at all"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert refused(tmp_path / name).startswith(f"{name}: ")


def test_a_truncated_parquet_file(tmp_path: Path) -> None:
    parquet.write_table(TABLE, tmp_path / "t.parquet")
    content = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(content[: len(content) // 2])
    assert refused(tmp_path / "t.parquet").startswith("t.parquet: cannot be read: ")


def test_an_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").symlink_to(tmp_path / "t.csv.d")
    (tmp_path / "t.csv.d").mkdir()
    with pytest.raises(LoadError, match="is a folder, not a file; name a file in it"):
        table_of(tmp_path / "t.csv")
    with pytest.raises(LoadError, match="cannot be read: File name too long"):
        read(tmp_path / ("x" * 300 + ".csv"))


def test_folders_that_are_no_data(tmp_path: Path) -> None:
    assert refused(tmp_path).endswith(
        "the folder is no saved Hugging Face data set, and holds neither a train file nor folders "
        "of pictures; name a file, put train.csv (and test.csv) into the folder, or one folder of "
        "pictures for each class"
    )
    (tmp_path / "train.csv").write_text("a,b\n1,2\n")
    (tmp_path / "test.csv").write_text("a,c\n1,2\n")
    assert refused(tmp_path).endswith(
        "train: the splits differ in the column 'b'; give all splits the same columns"
    )


def test_damaged_hugging_face_folders(tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        shutil.rmtree(tmp_path / "x", ignore_errors=True)
        return Path(shutil.copytree(SAVED / name, tmp_path / "x"))

    folder = copy("one")
    (folder / "data-00001-of-00002.arrow").unlink()
    assert refused(folder) == (
        "x/data-00001-of-00002.arrow: the file is missing; save the data set again"
    )
    folder = copy("one")
    (folder / "data-00000-of-00002.arrow").write_bytes(b"broken")
    assert refused(folder).startswith("x/data-00000-of-00002.arrow: cannot be read: ")
    folder = copy("one")
    (folder / "state.json").write_text("{")
    assert refused(folder).startswith("x/state.json: cannot be read: ")
    folder = copy("one")
    (folder / "state.json").write_text('{"_data_files": []}')
    assert refused(folder) == "x/state.json: names no data files; save the data set again"
    folder = copy("dict")
    (folder / "dataset_dict.json").write_text('{"splits": []}')
    assert refused(folder) == "x/dataset_dict.json: names no splits; save the data set again"


def test_a_hugging_face_folder_names_only_its_own_files(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SAVED / "one", tmp_path / "x"))
    (tmp_path / "secret.arrow").write_bytes(b"")
    (folder / "state.json").write_text('{"_data_files": [{"filename": "../secret.arrow"}]}')
    assert refused(folder) == "x/secret.arrow: the file is missing; save the data set again"


def test_class_numbers_beyond_the_names(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SAVED / "one", tmp_path / "x"))
    info = json.loads((folder / "dataset_info.json").read_text())
    info["features"]["label"]["names"] = ["good"]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    assert refused(folder) == "x: column 'label' holds class 1 of 1; save the data set again"
