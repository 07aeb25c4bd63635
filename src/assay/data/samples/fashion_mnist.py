"""Photographs of clothes: which of ten kinds is it?"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from assay.claims.context import DataCard
from assay.data.schema import Override
from assay.data.source import Sample, Source
from assay.errors import LoadError
from assay.registry import register

CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
#: images to train on, and to test
COUNTS = (60_000, 10_000)
FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
#: the system's package that holds these files, and where in it
PACKAGE = "dataset-fashion-mnist"
_INSTALLED = Path("/usr/share/datasets/fashion-mnist")


def own_folder() -> Path:
    """Where `fetch` puts the files: below `ASSAY_DATA`, else the user's data folder."""
    root = os.environ.get("ASSAY_DATA")
    if root:
        return Path(root) / "fashion-mnist"
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(home) / "assay" / "fashion-mnist"


@register("sample", "fashion-mnist")
class FashionMnist(Sample):
    """70,000 grey images of 28 by 28 pixels, of ten kinds of clothes (Xiao et al. 2017, arXiv
    1708.07747): 60,000 to train on, 10,000 to test.

    They are looked for below `ASSAY_DATA`, in the user's data folder, and where Debian's package
    `dataset-fashion-mnist` puts them.
    """

    extra: ClassVar[str] = ""

    def card(self) -> DataCard:
        """See `Sample.card`."""
        return DataCard(
            name="fashion-mnist",
            modality="image",
            splits=("train", "test"),
            rows=70_000,
            label="label",
            classes=10,
            license="MIT",
        )

    def folder(self) -> Path:
        """Where the files are.

        Raises:
            LoadError: nowhere; says how to fetch them.
        """
        for folder in (own_folder(), _INSTALLED):
            if all((folder / name).is_file() for name in FILES):
                return folder
        raise LoadError(
            "Fashion-MNIST is not on this machine",
            where="data fashion-mnist",
            mend="fetch it with 'assay data fashion-mnist --fetch', or put its four idx files into "
            f"{own_folder()}",
        )

    def load(self) -> Source:
        """See `Sample.load`."""
        import numpy as np
        import pyarrow as pa

        from assay.data.images import raw_column

        images, labels = _arrays(self.folder())
        names = np.array(CLASSES)[np.concatenate(labels)]
        train, rows = len(images[0]), len(names)
        return Source(
            table=pa.table(
                {
                    "image": raw_column(np.concatenate(images)),
                    "label": pa.array(names.tolist(), pa.string()),
                }
            ),
            columns={
                "image": Override(kind="image", role="feature"),
                "label": Override(kind="categorical", role="label", categories=CLASSES),
            },
            splits={
                "train": np.arange(train, dtype=np.int64),
                "test": np.arange(train, rows, dtype=np.int64),
            },
        )

    def fetch(self) -> Path:
        """Get the files from the system's package manager, without root; gives their folder.

        Raises:
            LoadError: there is no such package manager, or it cannot get the package.
        """
        target = own_folder()
        with tempfile.TemporaryDirectory(prefix="assay-fetch-") as name:
            work = Path(name)
            _run(["apt-get", "download", PACKAGE], work)
            archives = sorted(work.glob("*.deb"))
            if not archives:
                raise _no_package("apt-get downloaded nothing")
            _run(["dpkg-deb", "-x", str(archives[0]), "files"], work)
            found = next((p.parent for p in (work / "files").rglob(FILES[0])), None)
            if found is None or not all((found / item).is_file() for item in FILES):
                raise _no_package("the package holds other files")
            new = target.with_name(f".{target.name}.new")
            try:
                shutil.rmtree(new, ignore_errors=True)
                new.parent.mkdir(parents=True, exist_ok=True)
                new.mkdir()
                for item in FILES:
                    shutil.copyfile(found / item, new / item)
                _arrays(new)
                shutil.rmtree(target, ignore_errors=True)
                new.rename(target)
            except OSError as error:
                raise LoadError(
                    f"cannot write: {error.strerror}",
                    where=str(target),
                    mend="name another folder in ASSAY_DATA",
                ) from None
            finally:
                shutil.rmtree(new, ignore_errors=True)
        return target


def _arrays(folder: Path) -> tuple[list[Any], list[Any]]:
    """Images and labels, to train on and to test, checked.

    Raises:
        LoadError: a file is damaged; names it.
    """
    from assay.data.samples._idx import MEND, read_idx

    images = [read_idx(folder / FILES[2 * i], (n, 28, 28)) for i, n in enumerate(COUNTS)]
    labels = [read_idx(folder / FILES[2 * i + 1], (n,)) for i, n in enumerate(COUNTS)]
    for i, own in enumerate(labels):
        if int(own.max()) >= len(CLASSES):
            raise LoadError(
                f"the file holds class {own.max()} of {len(CLASSES)}",
                where=str(folder / FILES[2 * i + 1]),
                mend=MEND,
            )
    return images, labels


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        raise _no_package(f"there is no {command[0]} on this system") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise _no_package(f"{command[0]}: {said[:160]}")


def _no_package(why: str) -> LoadError:
    return LoadError(
        f"Fashion-MNIST cannot be fetched: {why}",
        where=f"package {PACKAGE}",
        mend=f"run 'apt-get update', or put its four idx files into {own_folder()}",
    )
