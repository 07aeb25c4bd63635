"""From a recipe's `data:` to an opened data set: roles, checks, labels, blocks, splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from assay.data import labels as labelling
from assay.data import roles
from assay.data.columns import check_known, dense, is_string, names_of, numbers, plain, truths
from assay.data.config import SPLIT_NAMES, DataConfig
from assay.data.dataset import Dataset
from assay.data.digest import content_digest, source_digest
from assay.data.images import check_pictures, decodable
from assay.data.schema import Column, Schema, infer
from assay.data.source import Source
from assay.data.splits import Blocks, How, Ints, check_apart, connect, divide
from assay.errors import LoadError, UsageError, did_you_mean
from assay.tasks.base import Task
from assay.tasks.base import infer as infer_task

if TYPE_CHECKING:
    import pyarrow as pa

_ORDER = ("train", "valid", "test")


def load(config: DataConfig, base: Path, task: Task | None = None) -> Dataset:
    """See `DataConfig.load`."""
    from assay.data.files import read

    sample, card = config.sample(), config.card(base)
    source = sample.load() if sample is not None else read(base / str(config.path))
    where = f"data {card.name}" if sample is not None else str(config.path)
    if card.label is None:
        raise LoadError("there is no label column", where=where, mend="name it with 'label:'")
    whole = source_digest(source.table) if card.private else ""
    known = roles.overrides(config, source, card.label, where)
    schema, inferred = infer(source.table, known, where)
    roles.check_single(schema)
    schema = _text_first(schema, config.text)
    rows = source.table.num_rows
    if config.drop_undecodable:
        source = _decodable(source, schema, where)
    left_out = rows - source.table.num_rows
    _check_cells(source.table, schema, where)
    source = labelling.labelled(source, card.label, config.drop_missing_label, where)
    task = task or infer_task(schema)
    _check_fit(task, schema, where)
    column = source.table.column(card.label)
    classes: tuple[str, ...] | None = None
    labels: npt.NDArray[Any]
    if task.classification:
        positive = _positive(config, task, source)
        declared = config.classes or schema.columns[card.label].categories
        classes, labels = labelling.class_labels(column, card.label, declared, positive, where)
    else:
        labels = labelling.values(column, card.label, where)
    schema = _with_classes(schema, card.label, classes)
    blocks, unit_of = _blocks(source.table, schema, config, where)
    splits = _splits(config, source, schema, blocks, labels, classes, where)
    schema = Schema(columns={n: c for n, c in schema.columns.items() if c.role != "drop"})
    table = source.table.select(list(schema.columns))
    card = card.model_copy(
        update={
            "modality": task.modality,
            "splits": tuple(splits),
            "rows": sum(len(rows) for rows in splits.values()),
            "classes": len(classes or ()),
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
        left_out=left_out,
        source=whole,
    )


def _text_first(schema: Schema, text: tuple[str, ...]) -> Schema:
    """The schema with the columns of text that a recipe names, in its order, and no others."""
    if not text:
        return schema
    others = {
        name: column.model_copy(update={"role": "drop"}) if column.kind == "text" else column
        for name, column in schema.columns.items()
        if name not in text
    }
    return Schema(columns={**{name: schema.columns[name] for name in text}, **others})


def _with_classes(schema: Schema, label: str, classes: tuple[str, ...] | None) -> Schema:
    if classes is None:
        column = Column(kind="numeric", role="label")
    else:
        column = Column(kind="categorical", role="label", categories=classes)
    return Schema(columns={**schema.columns, label: column})


def _check_cells(table: pa.Table, schema: Schema, where: str) -> None:
    """Refuse what is not finite, words that are no numbers, numbers that are no text, and gaps."""
    for name, column in schema.columns.items():
        values = table.column(name)
        if column.role in ("feature", "sensitive"):
            if column.kind in ("numeric", "time"):
                numbers(values, name, where, time=column.kind == "time")
                if column.kind == "numeric" and not column.missing:
                    check_known(values, name, where)
            elif column.kind == "boolean":
                _check_truths(values, name, where)
            elif column.kind == "text":
                check_text(values, name, where)
            elif column.kind == "image":
                ids = table.column(schema.id).to_pylist() if schema.id is not None else None
                check_pictures(values, name, where, ids)
        elif column.role == "label" and column.kind == "numeric":
            numbers(values, name, where)
        elif column.role in ("id", "unit", "group", "site", "time"):
            _check_complete(values, name, where)
        if column.role == "id":
            _check_ids(values, name, where)


def _decodable(source: Source, schema: Schema, where: str) -> Source:
    """The source without the rows whose pictures cannot be decoded."""
    names = schema.image_columns()
    if not names:
        raise UsageError(
            "drop_undecodable is set, and there is no column of pictures",
            where=where,
            mend="leave it out",
        )
    good = np.logical_and.reduce([decodable(source.table.column(name)) for name in names])
    if not good.any():
        raise LoadError(
            "none of its pictures can be decoded", where=where, mend="give pictures, or other data"
        )
    return source.keep(good)


def _check_truths(values: pa.ChunkedArray, name: str, where: str) -> None:
    said = names_of(values)
    bad = np.isnan(truths(values)) & said.is_valid().to_numpy()
    if bad.any():
        row = int(np.argmax(bad))
        raise LoadError(
            f"column {name!r}, row {row + 1}: {said[row].as_py()!r} says neither yes nor no",
            where=where,
            mend=f"correct the cell, or set 'columns: {{{name}: {{kind: categorical}}}}'",
        )


def check_text(column: pa.ChunkedArray, name: str, where: str) -> None:
    """Refuse a text column that is not text, or text that is all numbers.

    Raises:
        LoadError: says which column.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = plain(column).type
    numeric = not is_string(kind) and not pa.types.is_null(kind)
    if is_string(kind):
        words = names_of(column).drop_null()
        number = r"^\s*[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?\s*$"
        numeric = len(words) > 0 and bool(pc.all(pc.match_substring_regex(words, number)).as_py())
    if numeric:
        raise LoadError(
            f"the text column {name!r} holds numbers",
            where=where,
            mend="name a column of text, or use a tabular task",
        )


def _check_complete(values: pa.ChunkedArray, name: str, where: str) -> None:
    missing = names_of(values).is_null().to_numpy()
    if missing.any():
        raise LoadError(
            f"the column {name!r}, on which rows are named or grouped, has {int(missing.sum())} "
            f"missing value(s), the first in row {int(np.argmax(missing)) + 1}",
            where=where,
            mend="fill them in, or leave these rows out",
        )


def _check_ids(values: pa.ChunkedArray, name: str, where: str) -> None:
    index, words = dense(values)
    twice = np.bincount(index) > 1
    if twice.any():
        first = int(np.argmax(twice))
        rows = np.flatnonzero(index == first) + 1
        raise LoadError(
            f"the id {words[first]!r} of column {name!r} stands in rows {rows[0]} and {rows[1]}",
            where=where,
            mend="make ids unique, or leave out 'id:' and rows are named by their position",
        )


def _check_fit(task: Task, schema: Schema, where: str) -> None:
    if task.modality == "text" and not schema.text_columns():
        raise UsageError(
            f"the task {task.part_name} needs a column of text, and there is none",
            where=where,
            mend="name one with 'text: [column]', or use a tabular task",
        )
    if task.modality == "image" and len(schema.image_columns()) != 1:
        raise UsageError(
            f"the task {task.part_name} needs one column of pictures, and there are "
            f"{len(schema.image_columns()) or 'none'}",
            where=where,
            mend="leave the others out with 'drop:', or use another task",
        )
    if task.modality == "tabular" and not schema.features():
        raise UsageError(
            f"the task {task.part_name} needs feature columns, and there are none",
            where=where,
            mend="add columns, or use a text task",
        )


def _positive(config: DataConfig, task: Task, source: Source) -> str | None:
    if task.positive and config.positive and task.positive != config.positive:
        raise UsageError(
            f"the task says that {task.positive!r} is positive, the data say {config.positive!r}",
            where="data.positive",
            mend="say it once",
        )
    # a sample's positive class is one of its own label's
    own = source.positive if config.label in (None, _label_of(source)) else None
    return task.positive or config.positive or own


def _label_of(source: Source) -> str | None:
    return next((n for n, column in source.columns.items() if column.role == "label"), None)


def _blocks(table: pa.Table, schema: Schema, config: DataConfig, where: str) -> tuple[Blocks, Ints]:
    """What splits keep together, and the privacy unit of each row."""
    unit_of: Ints = np.arange(table.num_rows, dtype=np.int64)
    columns = [*schema.with_role("unit"), *schema.with_role("group")]
    if schema.unit is not None:
        unit_of = dense(table.column(schema.unit))[0]
    if config.splits.by == "grouped" and config.splits.column is not None:
        schema.find(config.splits.column, where)
        columns.append(config.splits.column)
    elif config.splits.by == "grouped" and not columns:
        raise UsageError(
            "by: grouped needs a column to group by",
            where="data.splits",
            mend="name it with 'column:'",
        )
    if not columns:
        # rows that have names are placed by them, whatever order the file has
        names = dense(table.column(schema.id))[1] if schema.id is not None else None
        return Blocks.rows(table.num_rows, names), unit_of
    _check_complete(table.column(columns[0]), columns[0], where)
    grouping, names = dense(table.column(columns[0]))
    for column in dict.fromkeys(columns[1:]):
        _check_complete(table.column(column), column, where)
        joined = connect(grouping, dense(table.column(column))[0])
        # a block is named by the first, in the alphabet, of what it joins
        firsts: dict[int, str] = {}
        for old, new in set(zip(grouping.tolist(), joined.tolist(), strict=True)):
            firsts[new] = min(firsts.get(new, names[old]), names[old])
        grouping, names = joined, [firsts[i] for i in range(len(firsts))]
    return Blocks(grouping, names), unit_of


def _splits(
    config: DataConfig,
    source: Source,
    schema: Schema,
    blocks: Blocks,
    labels: npt.NDArray[Any],
    classes: tuple[str, ...] | None,
    where: str,
) -> dict[str, Ints]:
    """The splits that were given, and those made of the training rows for what is missing."""
    spec, n = config.splits, source.table.num_rows
    given: dict[str, Ints] = dict(source.splits or {})
    if spec.by == "given":
        given = _given_by_column(source.table, str(spec.column), where)
    if "train" not in given:
        taken = np.concatenate([np.zeros(0, np.int64), *given.values()])
        given["train"] = np.setdiff1d(np.arange(n, dtype=np.int64), taken)
    for name, rows in given.items():
        if len(rows) == 0:
            raise LoadError(
                f"the split {name!r} is empty", where=where, mend="give it rows, or leave it out"
            )
    check_apart(given, blocks, where)
    wanted = {"valid": spec.valid, "test": spec.test} if spec.by != "given" else {}
    shares = {name: s for name, s in wanted.items() if s > 0 and name not in given}
    found: Mapping[str, Ints] = given
    if shares:
        rows = given["train"]
        times = None
        if spec.by == "time":
            name = str(spec.column)
            column = source.table.column(name)
            times = numbers(column, name, where, time=is_string(plain(column).type))[rows]
        parts = divide(
            blocks.among(rows),
            shares,
            _how(config, blocks, classes),
            seed=spec.seed,
            where=where,
            classes=labels[rows] if classes is not None else None,
            class_names=classes or (),
            times=times,
        )
        found = {**given, **{name: rows[part] for name, part in parts.items()}}
    order = [n for n in _ORDER if n in found] + sorted(n for n in found if n not in _ORDER)
    return {name: found[name] for name in order}


def _how(config: DataConfig, blocks: Blocks, classes: tuple[str, ...] | None) -> How:
    by = config.splits.by
    if by is not None and by != "given":
        return by
    if config.private:
        return "hash"
    if len(blocks) < len(blocks.of):
        return "grouped"
    return "stratified" if classes is not None else "random"


def _given_by_column(table: pa.Table, column: str, where: str) -> dict[str, Ints]:
    """The splits that a column names."""
    if column not in table.column_names:
        raise LoadError(
            f"splits.column names no column {column!r}",
            where=where,
            mend=did_you_mean(column, table.column_names),
        )
    _check_complete(table.column(column), column, where)
    index, words = dense(table.column(column))
    names = [SPLIT_NAMES.get(word.strip().lower(), word.strip().lower()) for word in words]
    if "train" not in names:
        raise LoadError(
            f"the column {column!r} puts no row into 'train'",
            where=where,
            mend="name the training rows 'train'",
        )
    split_of = np.array([sorted(set(names)).index(name) for name in names])[index]
    return {
        name: np.flatnonzero(split_of == i).astype(np.int64)
        for i, name in enumerate(sorted(set(names)))
    }
