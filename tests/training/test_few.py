"""Norms after a training on few rows: their statistics are those of the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import Bench, image_bench, table_bench, write_table
from torch import nn

from assay.config import build_part
from assay.training.few import run_on_few


def norms(model: Any) -> list[nn.BatchNorm2d]:
    return [m for m in model.network.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return image_bench(tmp_path_factory.mktemp("images"))


def stage(**settings: Any) -> Any:
    # a clock must not choose between kernels where two runs are compared
    plain = {"mode": "fp32", "memory_format": "contiguous"}
    step = {"adamw": 0.001, **settings.pop("step", {}), "precision": plain}
    return build_part("stage", {"finetune": {"epochs": 1, "batch": 8, "step": step, **settings}})


def test_statistics_are_the_plain_average_over_the_rows(images: Bench) -> None:
    trained = run_on_few(stage(), images.model, images.context(), 4)
    first = norms(trained)[0]
    seen: list[torch.Tensor] = []
    hook = first.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    encoded = trained.preprocessing.encode(images.dataset.rows("train"))
    trained.outputs(encoded)
    hook.remove()
    x = torch.cat(seen)
    assert first.running_mean is not None
    assert first.running_var is not None
    torch.testing.assert_close(first.running_mean, x.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    variance = x.transpose(0, 1).flatten(1).var(dim=1)
    torch.testing.assert_close(first.running_var, variance, rtol=1e-4, atol=1e-5)
    assert [n.momentum for n in norms(trained)] == [n.momentum for n in norms(images.model)]
    assert not any(m.training for m in trained.network.modules())


def test_a_network_evaluates_as_it_was_trained(images: Bench) -> None:
    """With a momentum that is too small for so few steps, rows learnt by heart are not known."""
    model = images.model.copy()
    for norm in norms(model):
        norm.momentum = 1e-3
    long = stage(step={"adamw": {"lr": 0.02}}, parameters="full")
    truth = images.dataset.targets("train")

    def right(trained: Any) -> float:
        outputs = trained.outputs(trained.preprocessing.encode(images.dataset.rows("train")))
        return float(np.mean(outputs.argmax(axis=1) == truth))

    lagging = long.lasting(90, len(truth)).run(model, images.context())
    settled = run_on_few(long, model, images.context(), 90)
    assert right(settled) > right(lagging) + 0.2
    for a, b in zip(lagging.network.parameters(), settled.network.parameters(), strict=True):
        torch.testing.assert_close(a, b)  # the weights are the same: only statistics differ


def test_norms_that_did_not_move_stay(images: Bench) -> None:
    trained = run_on_few(stage(parameters="head"), images.model, images.context(), 4)
    for before, after in zip(norms(images.model), norms(trained), strict=True):
        assert torch.equal(before.running_mean, after.running_mean)  # type: ignore[arg-type]


def test_without_norms_or_a_least_number_of_steps_it_is_the_stage_itself(
    images: Bench, tmp_path: Path
) -> None:
    write_table(tmp_path / "table.csv")
    table = table_bench(tmp_path)
    rows = table.dataset.size("train")
    long = stage().lasting(9, rows).run(table.model, table.context())
    assert run_on_few(stage(), table.model, table.context(), 9).subject() == long.subject()
    plain = stage().run(images.model, images.context())
    assert run_on_few(stage(), images.model, images.context(), 0).subject() == plain.subject()
