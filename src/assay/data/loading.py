"""From a recipe's `data:` to an opened data set: roles, checks, labels, splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from assay.data.columns import codes_of, dense, is_string, names_of, numbers, plain
from assay.data.config import DataConfig
from assay.data.dataset import Dataset
from assay.data.digest import content_digest
from assay.data.schema import Column, Override, Role, Schema, infer
from assay.data.source import Source
from assay.data.splits import Blocks, How, Ints, check_apart, connect, divide
from assay.errors import LoadError, UsageError, did_you_mean
from assay.tasks.base import Task
from assay.tasks.base import infer as infer_task

if TYPE_CHECKING:
    import pyarrow as pa

#: a label of numbers with more distinct values than this may be no class
_MANY_CLASSES = 20


def load(config: DataConfig, base: Path, task: Task | None = None) -> Dataset:
    """See `DataConfig.load`."""
    from assay.data.files import read

    sample, card = config.sample(), config.card(base)
    source = sample.load() if sample is not None else read(base / str(config.path))
    where = f"data {card.name}"
    if card.label is None:
        raise LoadError("there is no label column", where=where, mend="name it with 'label:'")
    overrides = roles(config, source, card.label, where)
    schema, inferred = infer(source.table, overrides, where)
    _check_cells(source.table, schema, where)
    source = _labelled(source, card.label, config.drop_missing_label, where)
    table = source.table
    task = task or infer_task(schema)
    _check_fit(task, schema, where)
    positive = _positive(config, task, source)
    if task.classification:
        classes, labels = class_labels(table, card.label, config.classes, positive, where)
        label = schema.columns[card.label].model_copy(
            update={"kind": "categorical", "categories": classes}
        )
    else:
        classes, labels = None, _values(table, card.label, where)
        label = Column(kind="numeric", role="label")
    schema = Schema(columns={**schema.columns, card.label: label})
    blocks, unit_of = _blocks(table, schema, config, where)
    splits = _splits(config, source, schema, blocks, labels, classes, where)
    used = [name for name, column in schema.columns.items() if column.role != "drop"]
    schema = Schema(columns={name: schema.columns[name] for name in used})
    table = table.select(used)
    card = card.model_copy(
        update={
            "modality": task.modality,
            "splits": tuple(splits),
            "rows": sum(len(rows) for rows in splits.values()),
            "classes": len(classes) if classes is not None else 0,
            "sensitive": schema.sensitive(),
            "unit": schema.unit,
        }
    )
    return Dataset(
        card=card,
        table=table,
        schema=schema,
        splits=splits,
        classes=classes,
        labels=labels,
        blocks=blocks,
        unit_of=unit_of,
        content=content_digest(table, schema),
        inferred=inferred,
    )


def roles(config: DataConfig, source: Source, label: str, where: str) -> dict[str, Override]:
    """What is known of each column: what the source says, under what the recipe says.

    Raises:
        LoadError: the recipe names a column that is not there.
        UsageError: the recipe gives one column two roles.
    """
    known = dict(source.columns)
    for name, column in known.items():
        if column.role == "label" and name != label:
            known[name] = Override(kind=column.kind)
    given: list[tuple[str, Override, str]] = [(label, Override(role="label"), "label")]
    singles: tuple[tuple[str | None, Role], ...] = (
        (config.id, "id"),
        (config.unit, "unit"),
        (config.group, "group"),
        (config.site, "site"),
    )
    given += [(name, Override(role=role), role) for name, role in singles if name is not None]
    given += [(name, Override(kind="text", role="feature"), "text") for name in config.text]
    given += [(n, Override(role="sensitive", sensitive=True), "sensitive") for n in config.sensitive]
    given += [(name, Override(role="drop"), "drop") for name in config.drop]
    said: dict[str, str] = {}
    for name, override, key in given:
        if name not in source.table.column_names:
            raise LoadError(
                f"{key} names no column {name!r}",
                where=where,
                mend=did_you_mean(name, source.table.column_names),
            )
        if said.get(name, key) != key and {said[name], key} != {"unit", "group"}:
            raise UsageError(
                f"the column {name!r} is both {said[name]} and {key}",
                where=f"data.{key}",
                mend="give each column one role",
            )
        if name not in said:
            known[name] = override.over(known.get(name, Override()))
        said[name] = key
    spec = config.splits
    if spec.by in ("time", "given") and spec.column is not None and spec.column not in said:
        role: Role = "time" if spec.by == "time" else "drop"
        if spec.column in source.table.column_names:
            known[spec.column] = Override(role=role).over(known.get(spec.column, Override()))
    if config.text:
        for name, column in known.items():
            if column.kind == "text" and name not in config.text:
                known[name] = Override(role="drop").over(column)
    for name, override in config.columns.items():
        known[name] = override.over(known.get(name, Override()))
    return known


def _check_cells(table: pa.Table, schema: Schema, where: str) -> None:
    """Refuse infinite numbers, numbers in text columns, and gaps where there may be none."""
    for name, column in schema.columns.items():
        values = table.column(name)
        if column.role in ("feature", "sensitive") and column.kind in ("numeric", "time"):
            numbers(values, name, where)
        if column.role == "feature" and column.kind == "text":
            check_text(values, name, where)
        if column.role in ("id", "unit", "group", "site", "time") and values.null_count:
            row = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False))) + 1
            raise LoadError(
                f"column {name!r} ({column.role}) has {values.null_count} missing value(s), "
                f"the first in row {row}",
                where=where,
                mend="fill them in, or leave the rows out",
            )
        if column.role == "id":
            _check_ids(values, name, where)


def check_text(column: pa.ChunkedArray, name: str, where: str) -> None:
    """Refuse a text column that is not text, or text that is all numbers.

    Raises:
        LoadError: says which column.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = plain(column).type
    if pa.types.is_null(kind):
        return
    numeric = not is_string(kind)
    if not numeric:
        words = names_of(column).drop_null()
        number = r"^\s*[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?\s*$"
        numeric = len(words) > 0 and bool(pc.all(pc.match_substring_regex(words, number)).as_py())
    if numeric:
        raise LoadError(
            f"the text column {name!r} holds numbers",
            where=where,
            mend="name a column of text, or use a tabular task",
        )


def _check_ids(values: pa.ChunkedArray, name: str, where: str) -> None:
    index, words = dense(values)
    counts = np.bincount(index)
    if (counts > 1).any():
        word = words[int(np.argmax(counts > 1))]
        rows = np.flatnonzero(index == int(np.argmax(counts > 1))) + 1
        raise LoadError(
            f"the id {word!r} stands in rows {int(rows[0])} and {int(rows[1])} of column {name!r}",
            where=where,
            mend="make ids unique, or leave out 'id:' and rows are named by their position",
        )


def _labelled(source: Source, label: str, drop: bool, where: str) -> Source:
    """The source without rows that lack a label, which are refused unless `drop`."""
    names = names_of(source.table.column(label))
    missing = names.is_null().to_numpy(zero_copy_only=False).astype(np.bool_)
    if not missing.any():
        return source
    count = int(missing.sum())
    if not drop:
        raise LoadError(
            f"the label column {label!r} has {count} missing value(s), the first in row "
            f"{int(np.argmax(missing)) + 1}",
            where=where,
            mend="fill them in, or set 'drop_missing_label: true' to leave these rows out",
        )
    keep = np.flatnonzero(~missing)
    new = np.cumsum(~missing) - 1
    splits = source.splits
    if splits is not None:
        splits = {name: new[rows[~missing[rows]]] for name, rows in splits.items()}
        splits = {name: rows for name, rows in splits.items() if len(rows)}
    return Source(source.table.take(keep), source.columns, splits, source.positive)


def _check_fit(task: Task, schema: Schema, where: str) -> None:
    if task.modality == "text" and not schema.text_columns():
        raise UsageError(
            f"the task {task.part_name} needs a column of text and there is none",
            where=where,
            mend="name one with 'text: [column]', or use task: tabular-classification",
        )
    if task.modality == "tabular" and not schema.features():
        raise UsageError(
            f"the task {task.part_name} needs feature columns and there are none",
            where=where,
            mend="add columns, or use task: text-classification for text",
        )


def _positive(config: DataConfig, task: Task, source: Source) -> str | None:
    if task.positive and config.positive and task.positive != config.positive:
        raise UsageError(
            f"the task says that {task.positive!r} is positive, the data say {config.positive!r}",
            where="data.positive",
            mend="say it once",
        )
    asked = task.positive or config.positive
    return asked or (source.positive if config.label is None else None)


def class_labels(
    table: pa.Table,
    label: str,
    declared: tuple[str, ...] | None,
    positive: str | None,
    where: str,
) -> tuple[tuple[str, ...], Ints]:
    """The classes and the class index of each row.

    Classes are sorted (numbers by value); of two classes the positive one comes second.

    Raises:
        LoadError: one class only, a label that is a quantity, a label that was not declared, or a
            positive class that is not there.
    """
    column = table.column(label)
    _, found = dense(column)
    if declared is None and len(found) < 2:
        raise LoadError(
            f"the label column {label!r} holds one class only: {found[0] if found else None!r}",
            where=where,
            mend="give rows of at least two classes",
        )
    if declared is None:
        _check_quantity(column, found, label, where)
    else:
        extra = sorted(set(found) - set(declared))
        if extra:
            raise LoadError(
                f"the label column {label!r} holds {extra[0]!r}, which is not among the declared "
                "classes",
                where=where,
                mend="add it to 'classes:'",
            )
    classes = declared or tuple(sorted(found, key=_by_value))
    if positive is not None and positive not in classes:
        raise LoadError(
            f"no row has the positive class {positive!r}",
            where=where,
            mend=did_you_mean(positive, classes),
        )
    if positive is not None and len(classes) == 2:
        classes = (next(c for c in classes if c != positive), positive)
    codes, _ = codes_of(column, classes)
    return classes, codes


def _by_value(name: str) -> tuple[int, float, str]:
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name


def _check_quantity(column: pa.ChunkedArray, found: list[str], label: str, where: str) -> None:
    import pyarrow as pa

    kind = plain(column).type
    if is_string(kind) or pa.types.is_boolean(kind) or len(found) <= _MANY_CLASSES:
        return
    whole = all("." not in name for name in found)
    if not whole or len(found) > len(column) / 5:
        raise LoadError(
            f"the label column {label!r} holds {len(found)} different numbers: a quantity, no class",
            where=where,
            mend="use task: tabular-regression",
        )


def _values(table: pa.Table, label: str, where: str) -> npt.NDArray[np.float32]:
    """Targets of a regression."""
    values = numbers(table.column(label), label, where)
    if len(values) and (values == values[0]).all():
        raise LoadError(
            f"the label column {label!r} holds one value only: {values[0]:g}",
            where=where,
            mend="give rows with different values",
        )
    return values.astype(np.float32)


def _blocks(
    table: pa.Table, schema: Schema, config: DataConfig, where: str
) -> tuple[Blocks, Ints]:
    """What splits keep together, and the privacy unit of each row."""
    n = table.num_rows
    unit_of: Ints = np.arange(n, dtype=np.int64)
    units: list[str] | None = None
    if schema.unit is not None:
        unit_of, units = dense(table.column(schema.unit))
    columns = list(schema.with_role("group"))
    if config.splits.by == "grouped":
        columns += [config.splits.column] if config.splits.column is not None else []
        if not columns and schema.unit is None:
            raise UsageError(
                "by: grouped needs a column", where="data.splits", mend="name it with 'column:'"
            )
    grouping, names = (unit_of, units) if units is not None else (None, None)
    for column in dict.fromkeys(columns):
        schema.find(column, where)
        if table.column(column).null_count:
            raise LoadError(
                f"the column {column!r} that groups rows has missing values",
                where=where,
                mend="fill them in, or leave the rows out",
            )
        found, words = dense(table.column(column))
        if grouping is None or names is None:
            grouping, names = found, words
        else:
            joined = connect(grouping, found)
            # a block is named by the first in the alphabet of what it joins
            labels: dict[int, str] = {}
            for old, new in dict(zip(grouping.tolist(), joined.tolist(), strict=True)).items():
                labels[new] = min(labels.get(new, names[old]), names[old])
            grouping, names = joined, [labels[i] for i in range(len(labels))]
    if grouping is not None:
        return Blocks(grouping, names), unit_of
    return Blocks.rows(n, dense(table.column(schema.id))[1] if schema.id else None), unit_of


def _splits(
    config: DataConfig,
    source: Source,
    schema: Schema,
    blocks: Blocks,
    labels: npt.NDArray[Any],
    classes: tuple[str, ...] | None,
    where: str,
) -> dict[str, Ints]:
    spec, n = config.splits, source.table.num_rows
    given: Mapping[str, Ints] = source.splits or {}
    if spec.by == "given":
        given = _given_by_column(source.table, str(spec.column), where)
    if "train" not in given:
        given = {**given, "train": np.setdiff1d(np.arange(n), np.concatenate(
            [np.zeros(0, np.int64), *given.values()]))}
    for name, rows in given.items():
        if len(rows) == 0:
            raise LoadError(
                f"the split {name!r} is empty", where=where, mend="give it rows or leave it out"
            )
    check_apart(given, blocks, where)
    shares = {} if spec.by == "given" else {
        name: share
        for name, share in (("valid", spec.valid), ("test", spec.test))
        if share > 0 and name not in given
    }
    if not shares:
        return {name: given[name] for name in sorted(given, key=_split_order)}
    rows = given["train"]
    kept, index = np.unique(blocks.of[rows], return_inverse=True)
    inner = Blocks(index, None if blocks.names is None else [blocks.names[i] for i in kept])
    times = None
    if spec.by == "time":
        schema.find(str(spec.column), where)
        times = numbers(source.table.column(str(spec.column)), str(spec.column), where)[rows]
    parts = divide(
        inner,
        shares,
        _how(config, blocks, n, classes),
        seed=spec.seed,
        where=where,
        classes=labels[rows] if classes is not None else None,
        class_names=classes or (),
        times=times,
    )
    found = {**given, **{name: rows[part] for name, part in parts.items()}}
    return {name: found[name] for name in sorted(found, key=_split_order)}


def _how(config: DataConfig, blocks: Blocks, n: int, classes: tuple[str, ...] | None) -> How:
    by = config.splits.by
    if by is not None and by != "given":
        return by
    if config.private:
        return "hash"
    if len(blocks) < n:
        return "grouped"
    return "stratified" if classes is not None else "random"


def _split_order(name: str) -> tuple[int, str]:
    known = ("train", "valid", "test")
    return (known.index(name) if name in known else len(known)), name


def _given_by_column(table: pa.Table, column: str, where: str) -> dict[str, Ints]:
    from assay.data.config import SPLIT_NAMES

    if column not in table.column_names:
        raise LoadError(
            f"splits.column names no column {column!r}",
            where=where,
            mend=did_you_mean(column, table.column_names),
        )
    index, words = dense(table.column(column))
    if table.column(column).null_count:
        raise LoadError(
            f"the split column {column!r} has missing values", where=where, mend="fill them in"
        )
    found: dict[str, list[Ints]] = {}
    for i, word in enumerate(words):
        name = SPLIT_NAMES.get(word.strip().lower(), word.strip().lower())
        found.setdefault(name, []).append(np.flatnonzero(index == i).astype(np.int64))
    if "train" not in found:
        raise LoadError(
            f"the split column {column!r} names no row 'train'",
            where=where,
            mend="name the training rows 'train'",
        )
    return {name: np.sort(np.concatenate(rows)) for name, rows in found.items()}
