"""`calibrate`: what is fitted, saved, exported, replaced and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import Bench, save, table_bench, write_table

from assay.errors import UsageError
from assay.models.calibration import Isotonic
from assay.models.fitting import best_temperature, isotonic_knots
from assay.models.load import load_model
from assay.recipe.schema import Recipe
from assay.stages.calibrate import Calibrate


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("calibrate")
    write_table(folder / "table.csv", rows=200)
    return table_bench(folder)


def test_the_temperature_undoes_one() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40_000, 3))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    y = (p.cumsum(1) < rng.random((len(p), 1))).sum(1).clip(max=2)
    assert best_temperature(logits * 3, y) == pytest.approx(3.0, rel=0.03)
    # at the optimum the derivative of the loss is zero
    t = best_temperature(logits * 3, y)
    assert t is not None
    losses = [
        torch.nn.functional.cross_entropy(torch.tensor(logits * 3 / s), torch.tensor(y)).item()
        for s in (t * 0.999, t, t * 1.001)
    ]
    assert losses[1] <= min(losses)


def test_rows_that_are_all_right_tell_no_temperature() -> None:
    logits, y = np.array([[2.0, 0.0], [0.0, 0.1], [3.0, 1.0]]), np.array([0, 1, 0])
    assert best_temperature(logits, y) is None
    assert best_temperature(logits, 1 - y) is not None
    # one row that is wrong bounds it
    found = best_temperature(np.vstack([logits, [[1.0, 0.0]]]), np.append(y, 1))
    assert found is not None and 0.01 < found < 100


def test_the_isotonic_map_is_scikit_learns() -> None:
    from sklearn.isotonic import IsotonicRegression

    rng = np.random.default_rng(1)
    p = rng.dirichlet([1, 1, 1], 300)
    y = rng.integers(0, 3, 300)
    x, knots = isotonic_knots(p, y)
    layer = Isotonic(3, x.shape[1]).double()
    layer.x.copy_(torch.from_numpy(x))
    layer.y.copy_(torch.from_numpy(knots))
    new = rng.dirichlet([1, 1, 1], 50)
    got = layer(torch.from_numpy(np.log(new))).exp().numpy()
    wanted = np.stack(
        [
            IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
            .fit(p[:, k], (y == k).astype(float))
            .predict(new[:, k])
            for k in range(3)
        ],
        axis=1,
    ).clip(1e-6)
    np.testing.assert_allclose(got, wanted / wanted.sum(1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_it_is_saved_exported_and_replaced(table: Bench, tmp_path: Path, method: Any) -> None:
    from assay.deploy.onnx_export import export_onnx
    from assay.deploy.runtime import OnnxNetwork

    before = {k: v.clone() for k, v in table.model.network.state_dict().items()}
    made = Calibrate(method=method).run(table.model, table.context())
    assert [s.part_name for s in made.structures] == ["head", method]
    after = table.model.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    saved = save(table, tmp_path / "m", made)
    again = load_model(tmp_path / "m")
    encoded = again.preprocessing.encode(table.dataset.rows("test"))
    np.testing.assert_array_equal(again.outputs(encoded), saved.outputs(encoded))
    two = {k: torch.from_numpy(v) for k, v in encoded.batch(np.arange(2)).items()}
    export_onnx(again.network, two, False, tmp_path / "m.onnx")
    theirs = OnnxNetwork(tmp_path / "m.onnx", set(two)).outputs(encoded)
    np.testing.assert_allclose(theirs, again.outputs(encoded), atol=1e-4)
    twice = Calibrate(method="temperature").run(again, table.context())
    assert [s.part_name for s in twice.structures] == ["head", "temperature"]


def test_a_temperature_keeps_decisions_and_lowers_the_loss(table: Bench) -> None:
    rows = table.dataset.rows("valid")
    plain = table.model.predict(rows)
    made = Calibrate().run(table.model, table.context()).predict(rows)
    assert plain.labels == made.labels
    y = table.dataset.targets("valid")
    assert plain.probabilities is not None and made.probabilities is not None
    losses = [
        -np.log(p[np.arange(len(y)), y]).mean() for p in (plain.probabilities, made.probabilities)
    ]
    assert losses[1] <= losses[0] + 1e-7


def test_a_regression_is_refused_with_a_way_out() -> None:
    recipe = Recipe(
        model="mlp",
        data={"name": "breast_cancer", "label": "mean radius"},
        task="tabular-regression",
        stages=[{"finetune": {"epochs": 1}}, "calibrate"],
    )
    with pytest.raises(UsageError, match="probabilities"):
        recipe.run()


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        (["calibrate: isotonic", "finetune"], "isotonic map is flat"),
        (["calibrate: {split: train}"], "too sure of its training rows"),
        (["audit: {calibration: {conformal: {split: train}}}"], "too sure of its training rows"),
    ],
)
def test_what_would_mislead_is_refused(stages: list[str], says: str) -> None:
    import yaml

    whole = [{"finetune": {"epochs": 1}}, *(yaml.safe_load(s) for s in stages)]
    with pytest.raises((UsageError, ValueError), match=says):
        Recipe(model="mlp", data="breast_cancer", stages=whole).run()


def test_a_new_head_brings_no_old_map(table: Bench, tmp_path: Path) -> None:
    from dataclasses import replace

    from assay.data.door import LocalDoor
    from assay.models.continuing import continued

    made = Calibrate(method="isotonic").run(table.model, table.context())
    other = replace(table.dataset, classes=("a", "b"))
    new = continued(made, table.task, other, 0, LocalDoor())
    assert [s.part_name for s in new.structures] == ["head"]
    assert not list(new.network.get_submodule("calibration").buffers())


def test_classes_in_another_order_take_their_map_along(table: Bench) -> None:
    from dataclasses import replace

    from assay.data.door import LocalDoor
    from assay.models.continuing import continued

    assert table.model.classes is not None
    made = Calibrate(method="isotonic").run(table.model, table.context())
    turned = replace(table.dataset, classes=table.model.classes[::-1])
    new = continued(made, table.task, turned, 0, LocalDoor())
    rows = table.dataset.rows("test")
    before, after = made.predict(rows).probabilities, new.predict(rows).probabilities
    assert before is not None and after is not None
    # the map is steep in places: rounding of its argument shows
    np.testing.assert_allclose(after[:, ::-1], before, atol=1e-4)
