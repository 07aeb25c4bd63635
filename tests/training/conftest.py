"""A network on a table, and one on short texts, both without dropout: every step is predictable."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tiny import (
    Bench,
    table_bench,
    text_bench,
    write_reviews,
    write_table,
    write_tokenizer,
)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table (three rows a patient in `visits.csv`), reviews and a tokenizer."""
    folder = tmp_path_factory.mktemp("training")
    write_table(folder / "table.csv")
    write_table(folder / "visits.csv", rows=90, per_unit=3)
    write_reviews(folder / "reviews.jsonl")
    write_tokenizer(folder / "words")
    return folder


@pytest.fixture(scope="session")
def table(home: Path) -> Bench:
    return table_bench(home, dropout=0.0)


@pytest.fixture(scope="session")
def visits(home: Path) -> Bench:
    """Rows that belong to patients."""
    return table_bench(home, dropout=0.0, path="visits.csv", drop=(), unit="patient")


@pytest.fixture(scope="session")
def text(home: Path) -> Bench:
    return text_bench(home, dropout=0.0)
