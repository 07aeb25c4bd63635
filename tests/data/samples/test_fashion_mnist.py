"""Fashion-MNIST through small files of its format; the real ones are not on every machine."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.config import build
from assay.data.config import DataConfig
from assay.data.images import raw_pixels
from assay.data.samples import fashion_mnist
from assay.data.samples.fashion_mnist import CLASSES, FILES, FashionMnist
from assay.errors import LoadError, UsageError
from assay.recipe import listing

RNG = np.random.default_rng(0)
COUNTS = (100, 20)
IMAGES = [RNG.integers(0, 256, (n, 28, 28), dtype=np.uint8) for n in COUNTS]
LABELS = [(np.arange(n) % 10).astype(np.uint8) for n in COUNTS]


def idx(array: Any, magic: int | None = None, sizes: Any = None) -> bytes:
    magic = 0x800 + array.ndim if magic is None else magic
    sizes = array.shape if sizes is None else sizes
    return gzip.compress(struct.pack(f">I{len(sizes)}I", magic, *sizes) + array.tobytes(), mtime=0)


def contents() -> dict[str, bytes]:
    arrays = (IMAGES[0], LABELS[0], IMAGES[1], LABELS[1])
    return {name: idx(array) for name, array in zip(FILES, arrays, strict=True)}


def write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where the files are looked for, with none of this machine's in sight."""
    monkeypatch.setattr(fashion_mnist, "COUNTS", COUNTS)
    monkeypatch.setattr(fashion_mnist, "_INSTALLED", tmp_path / "installed")
    monkeypatch.setenv("ASSAY_DATA", str(tmp_path / "own"))
    return tmp_path / "own" / "fashion-mnist"


def test_opening_it(small: Path) -> None:
    write(small, contents())
    config = build(DataConfig, "fashion-mnist")
    data = config.load(Path())
    assert config.card(Path()) == data.card.model_copy(update={"rows": 70_000})
    assert data.card.splits == ("train", "valid", "test")
    assert data.inferred == ()
    assert data.classes == CLASSES
    assert {name: data.size(name) for name in data.splits} == {"train": 90, "valid": 10, "test": 20}
    # the test rows are those given, in their order
    np.testing.assert_array_equal(raw_pixels(data.column("test", "image"))[..., 0], IMAGES[1])
    assert data.targets("test").tolist() == LABELS[1].tolist()
    rows = data.positions("train")
    np.testing.assert_array_equal(
        raw_pixels(data.column("train", "image"))[..., 0], IMAGES[0][rows]
    )
    assert data.schema.image_columns() == ("image",)
    assert data.schema.features() == ()


def test_where_it_is_looked_for(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "installed", contents())
    assert FashionMnist().folder() == tmp_path / "installed"
    monkeypatch.delenv("ASSAY_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    own = tmp_path / "xdg" / "assay" / "fashion-mnist"
    write(own, contents())
    assert FashionMnist().folder() == own
    (own / FILES[3]).unlink()
    assert FashionMnist().folder() == tmp_path / "installed"


def test_it_is_not_there(small: Path) -> None:
    with pytest.raises(LoadError) as caught:
        build(DataConfig, "fashion-mnist").load(Path())
    assert caught.value.line() == (
        "data fashion-mnist: Fashion-MNIST is not on this machine; fetch it with 'assay data "
        f"fashion-mnist --fetch', or put its four idx files into {small}"
    )


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        (0, idx(IMAGES[0], magic=0x801), "is no idx file of the right kind"),
        (1, idx(LABELS[0], magic=0xD01), "is no idx file of the right kind"),
        (1, gzip.compress(b"\0", mtime=0), "is no idx file of the right kind"),
        (0, idx(IMAGES[0][:50]), "holds 50 x 28 x 28 values, not 100 x 28 x 28"),
        (2, idx(IMAGES[1][:, :27]), "holds 20 x 27 x 28 values, not 20 x 28 x 28"),
        (3, idx(LABELS[0]), "holds 100 values, not 20"),
        (2, idx(IMAGES[1][:10], sizes=(20, 28, 28)), "is cut off"),
        (2, idx(IMAGES[0], sizes=(20, 28, 28)), "has bytes to spare"),
        (0, idx(IMAGES[0])[:1000], "cannot be read: "),
        (0, b"no gzip", "cannot be read: Not a gzipped file"),
        (3, idx(LABELS[1] + 1), "holds class 10 of 10"),
    ],
)
def test_damaged_files(small: Path, file: int, data: bytes, message: str) -> None:
    write(small, {**contents(), FILES[file]: data})
    with pytest.raises(LoadError) as caught:
        build(DataConfig, "fashion-mnist").load(Path())
    assert caught.value.line().startswith(f"{small / FILES[file]}: the file {message}")
    assert str(caught.value.mend).endswith("assay data fashion-mnist --fetch")


# -- fetching ------------------------------------------------------------------------------------

GET = """#!/bin/sh
[ "$1 $2" = "download dataset-fashion-mnist" ] && : > dataset-fashion-mnist_0.0_all.deb
"""
UNPACK = """#!/bin/sh
[ "$1" = -x ] && [ -f "$2" ] && mkdir -p "$3/usr/share/datasets" &&
cp -r "{source}" "$3/usr/share/datasets/fashion-mnist"
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The two programs, played by scripts that copy files from `package`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    write(tmp_path / "package", contents())
    script(folder / "apt-get", GET)
    script(folder / "dpkg-deb", UNPACK.format(source=tmp_path / "package"))
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def test_fetching(small: Path, tools: Path) -> None:
    assert listing.fetch("fashion-mnist") == small
    assert {p.name: p.read_bytes() for p in small.iterdir()} == contents()
    assert [p.name for p in small.parent.iterdir()] == ["fashion-mnist"]
    # again, over what is damaged
    (small / FILES[0]).write_bytes(b"")
    listing.fetch("fashion-mnist")
    assert {p.name: p.read_bytes() for p in small.iterdir()} == contents()


@pytest.mark.parametrize(
    ("program", "text", "message"),
    [
        ("apt-get", "#!/bin/sh\necho 'E: Unable to locate' >&2; exit 100", "apt-get: E: Unable"),
        ("apt-get", "#!/bin/sh\n", "apt-get downloaded nothing"),
        ("dpkg-deb", "#!/bin/sh\nexit 2", "dpkg-deb: exit code 2"),
        ("dpkg-deb", '#!/bin/sh\nmkdir "$3"', "the package holds other files"),
    ],
)
def test_fetching_fails(small: Path, tools: Path, program: str, text: str, message: str) -> None:
    script(tools / program, text)
    with pytest.raises(LoadError) as caught:
        listing.fetch("fashion-mnist")
    assert caught.value.what.startswith(f"Fashion-MNIST cannot be fetched: {message}")
    assert not small.exists()


def test_a_system_without_the_programs(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LoadError, match="there is no apt-get on this system"):
        listing.fetch("fashion-mnist")


def test_damaged_files_are_not_put_in_place(small: Path, tools: Path, tmp_path: Path) -> None:
    write(small, contents())
    (tmp_path / "package" / FILES[0]).write_bytes(b"damaged")
    with pytest.raises(LoadError, match="cannot be read"):
        listing.fetch("fashion-mnist")
    assert {p.name: p.read_bytes() for p in small.iterdir()} == contents()
    assert [p.name for p in small.parent.iterdir()] == ["fashion-mnist"]


def test_what_cannot_be_fetched(small: Path) -> None:
    with pytest.raises(UsageError, match="digits comes with the package"):
        listing.fetch("digits")
    with pytest.raises(UsageError, match="no sample is named"):
        listing.fetch(None)
    with pytest.raises(UsageError, match="unknown sample 'no-such'"):
        listing.fetch("no-such")
