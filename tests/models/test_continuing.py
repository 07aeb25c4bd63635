"""Going on from a model of ours: its passport comes along; what changed outputs is recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import Bench, origin_of, save

from assay.claims import Claim, Effects
from assay.claims.records import StageRecord
from assay.config import build_part
from assay.data.config import DataConfig
from assay.data.door import LocalDoor
from assay.errors import UsageError
from assay.models.hub import ModelConfig
from assay.models.load import load_model
from assay.models.model import Model

CLASSIFY = build_part("task", "tabular-classification")
REGRESS = build_part("task", "tabular-regression")


def claim(kind: str) -> Claim:
    return Claim(kind=kind, value=0.5, unit="fraction", dataset="table", split="test")


@pytest.fixture
def folder(table: Bench, tmp_path: Path) -> Path:
    """A run whose one stage claimed its accuracy and its epsilon."""
    model = table.model
    record = StageRecord(index=0, name="audit", effects=Effects(), subject=model.subject())
    passport = model.passport.append(origin_of(table))
    passport = passport.with_stage(
        record, [claim("quality.accuracy"), claim("privacy.epsilon"), claim("size.bytes")]
    )
    model.with_passport(passport).save(tmp_path / "run" / "model")
    return tmp_path / "run"


@pytest.fixture
def go_on(home: Path, folder: Path) -> Callable[..., Model]:
    """(task, settings of the data) -> the model, loaded for these data."""

    def load(task: Any = CLASSIFY, scratch: bool = False, **settings: Any) -> Model:
        raw = {"path": "table.csv", "label": "label", "drop": ("patient",), **settings}
        dataset = DataConfig(**raw).load(home, task)
        config = ModelConfig(name=str(folder))
        return config.load(home, task, dataset, 1, door=LocalDoor(), scratch=scratch)

    return load


def carried(model: Model) -> list[str]:
    return [c.claim.kind for c in model.passport.replay() if c.carried]


def test_the_same_classes_go_on_as_they_are(
    go_on: Callable[..., Model], folder: Path, table: Bench
) -> None:
    model = go_on()
    assert model.subject() == table.model.subject()
    assert model.passport.lines == load_model(folder).passport.lines
    assert carried(model) == ["quality.accuracy", "privacy.epsilon", "size.bytes"]


def test_the_same_classes_in_another_order_keep_what_was_learnt(
    go_on: Callable[..., Model], table: Bench
) -> None:
    model = go_on(positive="no")
    assert (table.model.classes, model.classes) == (("no", "yes"), ("yes", "no"))
    rows = table.dataset.rows("test")
    ours, theirs = model.predict(rows), table.model.predict(rows)
    assert ours.probabilities is not None
    assert theirs.probabilities is not None
    assert np.array_equal(ours.probabilities[:, ::-1], theirs.probabilities)
    assert ours.labels == theirs.labels
    assert carried(model) == ["privacy.epsilon", "size.bytes"]
    assert model.passport.stages()[-1].record.subject == model.subject()


def test_the_order_of_classes_goes_through_masks_and_adapters_of_the_head(
    table: Bench, tmp_path: Path
) -> None:
    from assay.models.continuing import continued
    from assay.models.structures.mask import mask_model

    lora = {"lora": {"rank": 2, "alpha": 2, "targets": ["head"]}}
    model = table.model.with_structure(build_part("structure", lora), seed=0)
    with torch.no_grad():
        model.network.get_parameter("head.lora_B").copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    keep = torch.zeros(2, 5, dtype=torch.bool)
    keep[0] = True
    model = mask_model(model, {"head.weight": keep})
    data = replace(table.dataset, classes=("yes", "no"))
    turned = continued(model, table.task, data, 0, LocalDoor())
    rows = table.dataset.rows("test")
    ours, theirs = turned.predict(rows).probabilities, model.predict(rows).probabilities
    assert ours is not None
    assert theirs is not None
    assert np.array_equal(ours[:, ::-1], theirs)
    assert torch.equal(turned.support()["head.weight"], ~keep)
    assert turned.passport.records == ()  # there was none: nothing is invented


def test_other_classes_get_a_new_head_on_the_same_trunk(
    go_on: Callable[..., Model], folder: Path, table: Bench, tmp_path: Path
) -> None:
    model = go_on(label="colour")
    assert model.classes == ("green", "red")
    before, after = table.model.network.state_dict(), model.network.state_dict()
    for name, value in after.items():
        assert torch.equal(value, before[name]) == name.startswith("backbone."), name
    assert carried(model) == ["privacy.epsilon"]
    last = model.passport.stages()[-1].record
    assert (last.index, last.effects.notes) == (1, ("a new head",))
    # the next run's records follow, and the folder reads back
    passport = model.passport.append(origin_of(table)).with_stage(
        StageRecord(index=0, name="audit", effects=Effects(keeps=("*",)), subject=model.subject())
    )
    model.with_passport(passport).save(tmp_path / "next")
    again = load_model(tmp_path / "next")
    assert again.classes == ("green", "red")
    assert [s.number for s in again.passport.stages()] == [-2, -1, 0]
    assert again.passport.lines[:3] == load_model(folder).passport.lines[:3]


def test_three_classes(go_on: Callable[..., Model], home: Path) -> None:
    model = go_on(classes=("maybe", "no", "yes"))
    assert model.structures[0].model_dump()["outputs"] == 3
    assert model.card.parameters == model.parameter_count()


def test_from_classes_to_numbers_and_back(
    go_on: Callable[..., Model], home: Path, table: Bench, tmp_path: Path
) -> None:
    numbers = go_on(REGRESS, label="b", drop=("patient", "label"))
    assert numbers.classes is None
    dataset = DataConfig(path="table.csv", label="b", drop=("patient",)).load(home, REGRESS)
    values = dataset.targets("train").astype(float)
    assert numbers.preprocessing.target is not None
    assert numbers.preprocessing.target.mean == pytest.approx(values.mean())
    assert numbers.preprocessing.target.std == pytest.approx(values.std())
    assert numbers.preprocessing.learnt_targets(values).std() == pytest.approx(1.0)
    found = Bench(dataset, numbers, REGRESS)
    save(found, tmp_path / "numbers")
    config = ModelConfig(name=str(tmp_path / "numbers"))
    back = config.load(home, CLASSIFY, table.dataset, 0, door=LocalDoor())
    assert back.preprocessing.target is None
    targets = table.dataset.targets("train")
    assert back.preprocessing.learnt_targets(targets).dtype == np.int64
    assert back.predict(table.dataset.rows("test")).probabilities is not None


def test_a_new_head_is_refused_where_structures_hold_the_old_one(
    go_on: Callable[..., Model], folder: Path, table: Bench
) -> None:
    model = table.model.with_structure(build_part("structure", {"lora": {"rank": 1}}), seed=0)
    save(table, folder / "model", model)
    with pytest.raises(UsageError, match="merge its adapters first"):
        go_on(label="colour")
    assert [s.part_name for s in go_on().structures] == ["head", "lora"]


def test_adapters_are_trained_further_after_loading(
    go_on: Callable[..., Model], folder: Path, table: Bench
) -> None:
    choice = build_part("parameters", {"lora": 2})
    save(table, folder / "model", choice.prepare(table.model, 0))
    loaded = go_on()
    assert choice.prepare(loaded, 1) is loaded
    with pytest.raises(UsageError, match="has other adapters already"):
        build_part("parameters", {"lora": {"rank": 2, "targets": ["head"]}}).prepare(loaded, 1)


def test_a_model_folder_starts_anew_with_other_weights_and_no_passport(
    go_on: Callable[..., Model], folder: Path, table: Bench
) -> None:
    save(table, folder / "model")
    old, new = go_on(), go_on(scratch=True)
    assert new.preprocessing == old.preprocessing and not new.passport.lines
    before, after = old.network.state_dict(), new.network.state_dict()
    assert before.keys() == after.keys()
    assert not any(torch.equal(before[n], after[n]) for n in before if n.endswith("weight"))
    lora = build_part("structure", {"lora": {"rank": 1}})
    save(table, folder / "model", table.model.with_structure(lora, seed=0))
    with pytest.raises(UsageError, match="cannot start from scratch"):
        go_on(scratch=True)
