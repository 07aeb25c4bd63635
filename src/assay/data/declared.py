"""Which columns of a table preprocessing would read, as far as a recipe alone can tell."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.data.config import DataConfig
from assay.data.schema import Column, Override
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.data.dataset import Dataset
    from assay.tasks.base import Task

#: what stands for the targets of a regression, which no declaration covers
TARGET = "the target"
#: bytes of a file in which its header must lie
_HEAD = 65_536


def undeclared(config: DataConfig, base: Path, task: Task | None) -> tuple[str, ...] | None:
    """What fitting the preprocessing of a table reads of training rows, before it is opened.

    A feature reads nothing where its kind is said (or follows from what is said) and
    `Column.declared` holds. Only the header of a file is looked at, no row; a sample, which is
    nobody's secret, is opened.

    Args:
        config: the recipe's `data`.
        base: the folder that its path is relative to.
        task: what is predicted (None: inferred from the label column).

    Returns:
        Names of columns, and `TARGET`; None where the columns are not known before the data are
        opened (folders, JSON lines, a file that cannot be read).
    """
    # nothing is declared: whatever the columns are, they are read
    if not config.columns:
        return None
    known = _columns(config, base)
    if known is None:
        return None
    label = config.label or config.card(base).label
    roles = _roles(config, label)
    for name, override in config.columns.items():
        known[name] = override.over(known.get(name, Override()))
    found = [name for name, said in known.items() if _reads(said, roles.get(name))]
    return (*found, *_target(config, label, task))


def undeclared_of(dataset: Dataset) -> tuple[str, ...]:
    """The same of an opened data set: exactly what fitting asks the door for, and features whose
    kind was read from the data.
    """
    found = set(dataset.schema.undeclared()) | set(dataset.inferred)
    names = tuple(name for name in dataset.schema.features() if name in found)
    return names if dataset.classes is not None else (*names, TARGET)


def _reads(said: Override, role: str | None) -> bool:
    """Whether a column is a feature that is not declared, of what is said of it and its role."""
    if (said.role or role or "feature") != "feature":
        return False
    kind = said.implied_kind()
    if kind is None:
        return True
    if kind in ("text", "image"):
        return False
    values = said.model_dump(include={"categories", "bounds", "missing"}, exclude_none=True)
    try:
        return not Column(kind=kind, **values).declared()
    except ValueError:
        return True


def _roles(config: DataConfig, label: str | None) -> dict[str, str]:
    """The role of each column to which the recipe gives one by name."""
    roles = dict.fromkeys(config.sensitive, "sensitive") | dict.fromkeys(config.drop, "drop")
    singles = {"id": config.id, "unit": config.unit, "group": config.group, "site": config.site}
    roles |= {name: role for role, name in singles.items() if name is not None}
    roles |= dict.fromkeys(config.text, "text")
    if config.splits.column is not None and config.splits.by in ("time", "given"):
        roles.setdefault(config.splits.column, "split")
    if label is not None:
        roles[label] = "label"
    return roles


def _target(config: DataConfig, label: str | None, task: Task | None) -> tuple[str, ...]:
    if config.classes or (task is not None and task.classification):
        return ()
    said = config.columns.get(label or "", Override()).implied_kind()
    return () if task is None and said in ("categorical", "boolean") else (TARGET,)


def _columns(config: DataConfig, base: Path) -> dict[str, Override] | None:
    """The columns of a file or a sample and what it says of them itself, if they can be known."""
    try:
        sample = config.sample()
        if sample is not None:
            return dict(_of_sample(type(sample)))
        path = base / str(config.path)
        names = _header(path) if path.is_file() else None
    except (AssayError, OSError, ValueError, ImportError, EOFError):
        return None
    return None if names is None else {name: Override() for name in names}


@lru_cache(maxsize=32)
def _of_sample(sample: Callable[[], Any]) -> tuple[tuple[str, Override], ...]:
    source = sample().load()
    names = source.table.column_names
    return tuple((name, source.columns.get(name, Override())) for name in names)


def _header(path: Path) -> tuple[str, ...] | None:
    """Names of the columns of one file, without its rows; None for other kinds of file."""
    name = path.name.lower()
    if name.endswith(".parquet"):
        from pyarrow import parquet

        return tuple(parquet.read_schema(path).names)
    if name.endswith((".arrow", ".feather")):
        return tuple(_arrow_names(path))
    plain = name.removesuffix(".gz")
    if not plain.endswith((".csv", ".tsv")):
        return None
    with gzip.open(path) if name.endswith(".gz") else path.open("rb") as stream:
        head = stream.read(_HEAD)
    if len(head) == _HEAD and b"\n" not in head:
        return None
    # the last line of what was read may be torn in the middle of a letter
    text = head.rpartition(b"\n")[0] or head
    counts = {sign: head.split(b"\n", 1)[0].count(sign.encode()) for sign in (",", ";", "\t")}
    sign = "\t" if plain.endswith(".tsv") else max(counts, key=lambda sign: counts[sign])
    return tuple(
        next(csv.reader(io.StringIO(text.decode("utf-8-sig"), newline=""), delimiter=sign), [])
    )


def _arrow_names(path: Path) -> Iterable[str]:
    import pyarrow as pa
    from pyarrow import ipc

    with path.open("rb") as stream:
        magic = stream.read(6)
    with pa.memory_map(str(path)) as mapped:
        opened = ipc.open_file(mapped) if magic == b"ARROW1" else ipc.open_stream(mapped)
        names: list[str] = opened.schema.names
    return names
