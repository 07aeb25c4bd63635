from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest

from assay.data.schema import Column, Override, Schema, infer, infer_kind
from assay.errors import LoadError

DAY = dt.date(2024, 1, 1)


@pytest.mark.parametrize(
    ("values", "kind", "usable"),
    [
        (pa.array([True, False, None]), "boolean", True),
        (pa.array([0, 1, 1, None]), "boolean", True),
        (pa.array([1, 2, 1]), "numeric", True),
        (pa.array([1, 1]), "numeric", True),
        (pa.array([1.5, None]), "numeric", True),
        (pa.array([0.0, 1.0]), "numeric", True),
        (pa.array([float("nan")] * 3), "numeric", False),
        (pa.array([None, None]), "categorical", False),
        (pa.array([None, None], type=pa.string()), "categorical", False),
        (pa.array(["yes", "no", "Yes "]), "categorical", True),
        (pa.array(["Yes", "no", "no"]), "boolean", True),
        (pa.array(["T", "F"]), "boolean", True),
        (pa.array(["m", "f"]), "categorical", True),
        (pa.array(["m", "f"]).dictionary_encode(), "categorical", True),
        (pa.array([DAY, None]), "time", True),
        (pa.array(["2024-01-01", "2024-02-29T10:30"]), "time", True),
        (pa.array([str(i) for i in range(21)]), "numeric", True),
        (pa.array([f"-{i}.5e3" for i in range(21)]), "numeric", True),
        (pa.array([str(i) for i in range(20)]), "categorical", True),
        (pa.array([f"0{i}" for i in range(21)] * 2), "categorical", True),
        (pa.array(["x" * 40 + str(i) for i in range(3)]), "text", True),
        (pa.array(["x" * 40] * 9 + ["y" * 40]), "categorical", True),
        (pa.array([f"K{i}" for i in range(21)]), "categorical", False),
        (pa.array([f"the title {i}" for i in range(21)]), "text", True),
        (pa.array([f"K{i}" for i in range(21)] * 2), "categorical", True),
    ],
)
def test_infer_kind(values: pa.Array, kind: str, usable: bool) -> None:
    assert infer_kind(pa.chunked_array([values])) == (kind, usable)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 1], "categorical"),
        (list(range(20)), "categorical"),
        (list(range(21)), "numeric"),
        ([1.0, 2.0, 3.0], "categorical"),
        ([1.5, 2.0], "numeric"),
        (["a", "b"], "categorical"),
    ],
)
def test_a_label_of_few_whole_numbers_is_a_class(values: list[Any], kind: str) -> None:
    assert infer_kind(pa.chunked_array([values]), label=True)[0] == kind


def test_infer_reads_only_what_is_not_said() -> None:
    table = pa.table({"a": [1, 2], "b": ["x", "y"], "c": [[1], [2]], "d": [None, None]})
    schema, read = infer(table, {"a": Override(categories=("1", "2")), "c": Override(role="drop")})
    assert schema.columns == {
        "a": Column(kind="categorical", categories=("1", "2")),
        "b": Column(kind="categorical"),
        "c": Column(kind="categorical", role="drop"),
        "d": Column(kind="categorical", role="drop"),
    }
    assert read == ("b", "d")


def test_infer_keeps_a_useless_column_that_has_a_role() -> None:
    table = pa.table({"key": [f"K{i}" for i in range(60)]})
    schema, _ = infer(table, {"key": Override(role="id")})
    assert schema.id == "key"
    assert infer(table)[0].columns["key"].role == "drop"


@pytest.mark.parametrize(
    ("table", "overrides", "message"),
    [
        (
            pa.table([[1], [2]], names=["a", "a"]),
            {},
            "t: two columns are called 'a'; rename one of them",
        ),
        (
            pa.table({"age": [1]}),
            {"agee": Override(kind="numeric")},
            "t: no column 'agee'; did you mean 'age'?",
        ),
        (
            pa.table({"a": [[1]]}),
            {},
            (
                "t: column 'a' holds list<item: int64>, not numbers, text, dates or booleans; "
                "leave it out with 'drop: [a]', or convert it first"
            ),
        ),
        (
            pa.table({"a": ["x"]}),
            {"a": Override(kind="text", bounds=(0, 1))},
            "t: column 'a': a text column has no bounds; remove bounds",
        ),
    ],
)
def test_infer_refuses(table: pa.Table, overrides: dict[str, Override], message: str) -> None:
    with pytest.raises(LoadError) as caught:
        infer(table, overrides, "t")
    assert caught.value.line() == message


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "numeric", "bounds": (1.0, 1.0)},
        {"kind": "categorical", "categories": ()},
        {"kind": "categorical", "categories": ("a", "a")},
        {"kind": "numeric", "categories": ("a",)},
        {"kind": "categorical", "bounds": (0.0, 1.0)},
    ],
)
def test_column_refuses_what_contradicts(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Column(**settings)


def test_yaml_categories_are_named_by_their_text() -> None:
    column = Column.model_validate({"kind": "categorical", "categories": [1, 2.0, True, "x"]})
    assert column.categories == ("1", "2", "true", "x")
    assert Override.model_validate({"categories": [False]}).implied_kind() == "categorical"
    assert Override(bounds=(0, 1)).implied_kind() == "numeric"


def test_schema_answers_by_role() -> None:
    schema = Schema(
        columns={
            "key": Column(kind="categorical", role="id"),
            "person": Column(kind="categorical", role="unit"),
            "age": Column(kind="numeric", sensitive=True),
            "race": Column(kind="categorical", role="sensitive"),
            "note": Column(kind="text"),
            "size": Column(kind="numeric", bounds=(0, 1)),
            "y": Column(kind="categorical", role="label"),
        }
    )
    assert (schema.id, schema.unit, schema.label) == ("key", "person", "y")
    assert schema.features() == ("age", "size")
    assert schema.text_columns() == ("note",)
    assert schema.sensitive() == ("age", "race")
    assert schema.undeclared() == ("age",)


def test_override_says_only_what_it_says() -> None:
    base = Override(kind="numeric", sensitive=True)
    assert Override(role="label").over(base) == Override(
        kind="numeric", role="label", sensitive=True
    )
