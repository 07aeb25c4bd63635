"""Tiny data and tiny networks on which every combination of parts is tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import (
    Bench,
    image_bench,
    table_bench,
    text_bench,
    write_reviews,
    write_table,
    write_tokenizer,
)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, reviews, a tokenizer, and a saved teacher for each."""
    folder = tmp_path_factory.mktemp("matrix")
    write_table(folder / "table.csv")
    write_reviews(folder / "reviews.jsonl")
    write_tokenizer(folder / "words")
    return folder


@pytest.fixture(scope="session")
def table(home: Path) -> Bench:
    """A multilayer perceptron on a table."""
    return table_bench(home)


@pytest.fixture(scope="session")
def text(home: Path) -> Bench:
    """A two-layer BERT on short reviews."""
    return text_bench(home)


@pytest.fixture(scope="session")
def images(home: Path) -> Bench:
    """A convolutional network on digits."""
    return image_bench(home)


@pytest.fixture
def in_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the parts' examples find their teacher."""
    monkeypatch.chdir(home)
    return home
