"""Small tables, written as files and opened as a recipe would."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from assay.config import build, build_part
from assay.data.config import DataConfig
from assay.data.dataset import Dataset


def write_csv(path: Path, columns: Mapping[str, Sequence[Any]]) -> Path:
    """A CSV file; None is an empty cell."""
    lines = [",".join(columns)]
    for row in zip(*columns.values(), strict=True):
        lines.append(",".join("" if cell is None else str(cell) for cell in row))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Dataset]:
    """(columns, task, settings of `data`) -> the data set."""

    def open_it(
        columns: Mapping[str, Sequence[Any]], task: str | None = None, /, **settings: Any
    ) -> Dataset:
        write_csv(tmp_path / "table.csv", columns)
        config = build(DataConfig, {"path": "table.csv", "label": "y", **settings}, "data")
        return config.load(tmp_path, build_part("task", task, "task") if task else None)

    return open_it


@pytest.fixture
def columns() -> dict[str, list[Any]]:
    """40 rows: two numbers, a colour with a gap, a flag, a label with 24 no and 16 yes."""
    n = 40
    return {
        "a": [i / 4 for i in range(n)],
        "b": [(7 * i) % 11 if i % 8 else None for i in range(n)],
        "colour": [("red", "green", "blue")[i % 3] if i != 5 else None for i in range(n)],
        "flag": [("yes", "no")[i % 2] for i in range(n)],
        "y": ["yes" if i % 5 < 2 else "no" for i in range(n)],
    }
