"""The Model as a value: outputs in order, predictions for rows as people have them, copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import Bench, save

from assay.config import build_part
from assay.data.preprocessing import Target
from assay.errors import LoadError
from assay.models.load import load_model
from assay.models.model import Model
from assay.models.structures.mask import mask_model

ROW = {"a": 0.1, "b": -0.2, "c": 0.3, "colour": "red"}


@pytest.mark.parametrize("which", ["table", "text"])
def test_outputs_do_not_depend_on_batches(which: str, table: Bench, text: Bench) -> None:
    found = {"table": table, "text": text}[which]
    encoded = found.model.preprocessing.encode(found.dataset.rows("train"))
    whole = found.model.outputs(encoded)
    assert whole.shape == (found.dataset.size("train"), 2)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(found.model.outputs(encoded, batch_size=5), whole, atol=1e-6)
    alone = [found.model.outputs(encoded.take(np.array([i])))[0] for i in range(len(encoded))]
    np.testing.assert_allclose(np.stack(alone), whole, atol=1e-6)
    assert np.array_equal(found.model.outputs(encoded), whole)
    if which == "text":
        assert len(set(encoded.lengths().tolist())) > 3


def test_predicting_leaves_the_mode_as_it_was(table: Bench) -> None:
    model = table.model.copy()
    expected = model.predict([ROW]).probabilities
    model.network.train()  # dropout must not act on predictions
    assert np.array_equal(np.asarray(model.predict([ROW]).probabilities), np.asarray(expected))
    assert model.network.training


def test_values_of_a_regression_are_in_their_own_unit(table: Bench) -> None:
    from dataclasses import replace

    scale = Target(mean=100.0, std=5.0)
    model = replace(
        table.model, preprocessing=table.model.preprocessing.model_copy(update={"target": scale})
    )
    encoded = model.preprocessing.encode(table.dataset.rows("test"))
    expected = table.model.outputs(encoded) * 5.0 + 100.0
    np.testing.assert_allclose(model.outputs(encoded), expected, rtol=1e-6)


# -- rows as people have them ---------------------------------------------------------------------


def features(model: Model, *rows: dict[str, Any]) -> Any:
    from assay.models.predictions import as_table

    return model.preprocessing.encode(as_table(list(rows))).arrays["features"]


def test_categories_that_were_never_seen_and_values_that_are_missing(table: Bench) -> None:
    model = table.model
    seen, other, missing = features(model, ROW, {**ROW, "colour": "mauve"}, {**ROW, "colour": None})
    names = model.preprocessing.names  # type: ignore[attr-defined]
    place = names.index("colour other")
    assert (seen[place], other[place], missing[place]) == (0, 1, 1)
    said = model.predict([ROW, {**ROW, "colour": "mauve"}, {**ROW, "a": None}])
    assert said.probabilities is not None
    assert np.isfinite(said.probabilities).all()
    np.testing.assert_allclose(said.probabilities.sum(axis=1), 1.0)
    # a number that is missing is the mean
    assert features(model, {**ROW, "a": None})[0, names.index("a")] == 0.0


def test_columns_may_come_in_any_order_with_others_between(table: Bench) -> None:
    shuffled = {"note": "x", "colour": "red", "c": 0.3, "label": "yes", "b": -0.2, "a": 0.1}
    expected, got = (table.model.predict([row]).probabilities for row in (ROW, shuffled))
    assert np.array_equal(np.asarray(got), np.asarray(expected))


def test_rows_keep_their_ids(table: Bench) -> None:
    said = table.model.predict([{**ROW, "id": "p7"}, {**ROW, "id": "p3"}])
    assert list(said.ids) == ["p7", "p3"]
    assert list(table.model.predict([ROW, ROW]).ids) == [0, 1]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{k: v for k, v in ROW.items() if k != "colour"}], "the column 'colour' is missing"),
        (
            [{**{k: v for k, v in ROW.items() if k != "colour"}, "color": "red"}],
            "did you mean 'color'",
        ),
        ([{**ROW, "a": "many"}], "column 'a', row 1"),
        ([ROW, {**ROW, "b": float("inf")}], "column 'b', row 2"),
        ([], "there are no rows"),
        ([[1, 2]], "cannot read rows from list"),
    ],
)
def test_rows_that_cannot_be_predicted(rows: Any, says: str, table: Bench) -> None:
    with pytest.raises(LoadError) as caught:
        table.model.predict(rows)
    assert says in caught.value.line()


def test_text_that_is_missing_or_no_text(text: Bench) -> None:
    said = text.model.predict([{"text": ""}, {"text": None}, {"text": "zzz"}, {"text": "good"}])
    probabilities = np.asarray(said.probabilities)
    assert np.array_equal(probabilities[0], probabilities[1])
    assert np.isfinite(probabilities).all()
    with pytest.raises(LoadError, match="holds int64, not text"):
        text.model.predict([{"text": 3}])
    with pytest.raises(LoadError, match="the column 'text' is missing"):
        text.model.predict([{"review": "good"}])


def test_a_file_is_predicted_like_its_rows(table: Bench, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b,c,colour\n0.1,-0.2,0.3,red\n,,,\n")
    said = table.model.predict(tmp_path / "rows.csv")
    blank = dict.fromkeys(ROW)
    expected = table.model.predict([ROW, blank])
    assert np.array_equal(np.asarray(said.probabilities), np.asarray(expected.probabilities))


# -- copies and structures ------------------------------------------------------------------------


def test_copies_share_no_memory(table: Bench) -> None:
    copy, before = table.model.copy(), table.model.subject()
    with torch.no_grad():
        for parameter in copy.network.parameters():
            parameter.zero_()
    copy.extra["x"] = Path("x")
    assert table.model.subject() == before
    assert table.model.extra == {}


def test_a_structure_goes_on_a_copy_and_is_a_function_of_the_seed(table: Bench) -> None:
    lora, before = build_part("structure", {"lora": {"rank": 1}}), table.model.subject()
    state = torch.random.get_rng_state()
    one, same, other = (table.model.with_structure(lora, seed) for seed in (1, 1, 2))
    assert one.subject() == same.subject() != other.subject()
    assert table.model.subject() == before
    assert [s.part_name for s in one.structures] == ["head", "lora"]
    assert torch.equal(state, torch.random.get_rng_state())


def test_masks_of_several_structures_hold_together(table: Bench) -> None:
    name = "head.weight"
    first, second = (torch.zeros(2, 5, dtype=torch.bool) for _ in range(2))
    first[0], second[:, 1:] = True, True
    model = mask_model(mask_model(table.model, {name: first}), {name: second})
    assert torch.equal(model.support()[name], first & second)
    assert int((model.network.get_parameter(name) != 0).sum()) <= 4


def test_blocks_in_the_order_in_which_they_run(table: Bench, text: Bench) -> None:
    assert table.model.blocks() == ["backbone.layers.0", "backbone.layers.1"]
    assert text.model.blocks() == ["backbone.encoder.layer.0", "backbone.encoder.layer.1"]


@pytest.mark.parametrize(
    ("which", "inputs"),
    [
        ("table", {"features": {"dtype": "float32", "rank": 2}}),
        (
            "text",
            {
                "input_ids": {"dtype": "int64", "rank": 2},
                "attention_mask": {"dtype": "int64", "rank": 2},
            },
        ),
    ],
)
def test_the_configuration_that_is_saved(
    which: str, inputs: dict[str, Any], table: Bench, text: Bench
) -> None:
    found = {"table": table, "text": text}[which]
    config = found.model.config()
    assert config["signature"]["inputs"] == inputs
    assert config["classes"] == list(found.model.classes or ())
    assert set(config["structures"][0]) == {"head"}
    assert set(config) == {
        "assay_version", "card", "architecture", "structures", "task", "classes", "signature",
    }  # fmt: skip


def test_equal_weights_are_linked_not_written_again(table: Bench, tmp_path: Path) -> None:
    model = save(table, tmp_path / "a")
    model.save(tmp_path / "b", like=tmp_path / "a")
    assert (tmp_path / "b/model.safetensors").samefile(tmp_path / "a/model.safetensors")
    model.save(tmp_path / "c", like=tmp_path / "nowhere")
    assert load_model(tmp_path / "c").subject() == model.subject()


def test_the_subject_is_the_digest_of_the_file(table: Bench, tmp_path: Path) -> None:
    from assay.files import file_digest

    model = save(table, tmp_path / "a")
    assert model.subject() == file_digest(tmp_path / "a" / "model.safetensors")
