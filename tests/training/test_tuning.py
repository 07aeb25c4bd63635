"""The kernel is chosen by the clock, on inputs that hold no data, and remembered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.tiny import Bench
from torch import nn

from assay.stages.finetune import Finetune
from assay.training import preparing, tuning
from assay.training.tuning import GAIN, Kernel, kernels, remembered, tune

FP32, BF16 = Kernel("fp32"), Kernel("bf16")
LAST = Kernel("fp32", channels_last=True)
INPUTS = {"x": torch.ones(2, 3)}


class Net(nn.Module):
    """Takes one input, and may have a convolution."""

    def __init__(self, convolution: bool = False) -> None:
        super().__init__()
        self.layer: nn.Module = nn.Conv2d(3, 4, 3) if convolution else nn.Linear(3, 2)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.dropout(self.layer(x))
        return result


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[Kernel, float]], list[Kernel]]:
    """(kernel -> seconds of its steps) -> the kernels timed from now on, in order."""

    def injected(costs: dict[Kernel, float]) -> list[Kernel]:
        timed: list[Kernel] = []
        now = [100.0]

        def autocast(self: Kernel) -> Any:
            timed.append(self)
            # the first step of a kernel is slow: it must not count
            now[0] += costs[self] * (50 if timed.count(self) == 1 else 1)
            return torch.autocast("cpu", enabled=False)

        monkeypatch.setattr(tuning, "time", SimpleNamespace(perf_counter=lambda: now[0]))
        monkeypatch.setattr(Kernel, "autocast", autocast)
        return timed

    return injected


def choose(options: list[Kernel], cache: Path | None = None, threads: int = 1) -> Any:
    return tune(Net(), {"layer.weight"}, INPUTS, options, cache, threads)


def test_the_fastest_wins(clock: Callable[..., list[Kernel]]) -> None:
    timed = clock({FP32: 0.3, BF16: 0.1, LAST: 0.2})
    chosen, seconds = choose([FP32, BF16, LAST])
    assert chosen == BF16
    assert seconds == {
        "fp32": pytest.approx(0.3),
        "bf16": pytest.approx(0.1),
        "fp32 channels last": pytest.approx(0.2),
    }
    assert timed[:3] == [FP32, BF16, LAST]  # in turn, so that all meet the same machine


@pytest.mark.parametrize(
    ("plain", "other", "chosen"),
    [
        (1.0, 1.01 / GAIN, FP32),  # not clearly faster
        (1.0, 0.99 / GAIN, BF16),
        (0.003, 0.001, FP32),  # all overhead: nothing to gain
    ],
)
def test_the_plain_one_stays_unless_another_wins_clearly(
    plain: float, other: float, chosen: Kernel, clock: Callable[..., list[Kernel]]
) -> None:
    clock({FP32: plain, BF16: other})
    assert choose([FP32, BF16])[0] == chosen


def test_long_steps_are_timed_few_times_and_short_ones_often(
    clock: Callable[..., list[Kernel]],
) -> None:
    timed = clock({FP32: 5.0, BF16: 5.0})
    choose([FP32, BF16])
    assert len(timed) == 2 * 3
    timed = clock({FP32: 1e-5, BF16: 1e-5})
    choose([FP32, BF16])
    assert len(timed) == 2 * 30


def test_the_outcome_is_remembered(clock: Callable[..., list[Kernel]], tmp_path: Path) -> None:
    clock({FP32: 0.3, BF16: 0.1})
    assert choose([FP32, BF16], tmp_path / "cache")[0] == BF16
    timed = clock({FP32: 0.1, BF16: 0.3})  # a clock that says otherwise is not asked
    assert choose([FP32, BF16], tmp_path / "cache") == (BF16, {})
    assert timed == []
    # other options, threads, inputs or networks are another question
    assert choose([FP32, BF16], tmp_path / "cache", threads=2)[0] == FP32
    timed.clear()
    tune(Net(), {"layer.bias"}, INPUTS, [FP32, BF16], tmp_path / "cache", 1)
    tune(Net(), {"layer.weight"}, {"x": torch.ones(3, 3)}, [FP32, BF16], tmp_path / "cache", 1)
    assert len(timed) >= 2 * 2 * 2


@pytest.mark.parametrize("content", ["", "{}", '{"kernel": {"precision": "fp8", "odd": 1}}', "[]"])
def test_a_damaged_memory_is_forgotten(
    content: str, clock: Callable[..., list[Kernel]], tmp_path: Path
) -> None:
    clock({FP32: 0.3, BF16: 0.1})
    choose([FP32, BF16], tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(content)
    timed = clock({FP32: 0.3, BF16: 0.1})
    assert choose([FP32, BF16], tmp_path)[0] == BF16
    assert timed
    assert json.loads(path.read_text())["kernel"]["precision"] == "bf16"


def test_no_choice_is_not_timed(clock: Callable[..., list[Kernel]]) -> None:
    timed = clock({})
    assert choose([BF16]) == (BF16, {})
    assert timed == []


def test_timing_leaves_no_trace() -> None:
    network = Net().eval()
    before = {n: t.clone() for n, t in network.state_dict().items()}
    state = torch.random.get_rng_state()
    tune(network, {"layer.weight"}, INPUTS, [FP32, BF16], None, 1)
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert not network.training
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("convolution", "settings", "expected"),
    [
        (False, ("auto", "auto", False), ["fp32", "bf16"]),
        (False, ("auto", "auto", True), ["fp32"]),
        (False, ("bf16", "auto", False), ["bf16"]),
        (False, ("fp32", "channels_last", False), ["fp32 channels last"]),
        (True, ("fp32", "auto", False), ["fp32", "fp32 channels last"]),
        (True, ("fp32", "contiguous", False), ["fp32"]),
        (
            True,
            ("auto", "auto", False),
            ["fp32", "bf16", "fp32 channels last", "bf16 channels last"],
        ),
    ],
)
def test_the_kernels_that_settings_and_network_allow(
    convolution: bool, settings: tuple[str, str, bool], expected: list[str]
) -> None:
    assert [k.name for k in kernels(Net(convolution), *settings)] == expected


def test_a_transformer_may_choose_its_attention(text: Bench) -> None:
    names = [k.name for k in kernels(text.model.network, "auto", "auto", False)]
    assert names == ["fp32 eager", "bf16 eager", "fp32 sdpa", "bf16 sdpa"]
    assert [k.name for k in kernels(text.model.network, "fp32", "auto", False)] == ["fp32"]
    network = text.model.copy().network
    assert tuning.attention_of(network) == "sdpa"
    tuning.use_attention(network, "eager")
    assert tuning.attention_of(network) == "eager"
    tuning.use_attention(network, None)
    assert tuning.attention_of(network) == "eager"
    assert tuning.attention_of(Net()) is None


def test_what_an_earlier_attempt_chose_is_chosen_again(tmp_path: Path) -> None:
    options = [FP32, BF16]
    assert remembered(options, {}, None) is None
    assert remembered(options, {}, tmp_path) is None
    assert remembered(options, BF16.facts(), None) == BF16
    assert remembered([FP32], BF16.facts(), None) is None  # no longer allowed
    (tmp_path / "kernel.json").write_text(json.dumps(FP32.facts()))
    assert remembered(options, BF16.facts(), tmp_path) == FP32


@pytest.mark.parametrize("which", ["table", "text"])
def test_no_data_are_opened(which: str, table: Bench, text: Bench, tmp_path: Path) -> None:
    found = {"table": table, "text": text}[which]
    context = found.context(tmp_path)
    context.dataset.opened.clear()
    stage = Finetune(parameters="head", step={"sgd": 0.1})
    model = found.model.copy()
    moving = set(stage.parameters.select(model))
    chosen = preparing.kernel(stage, model, context, moving)
    assert chosen in kernels(model.network, "auto", "auto", False)
    assert json.loads((tmp_path / "kernel.json").read_text()) == chosen.facts()
    assert {k: context.used[k] for k in chosen.facts()} == chosen.facts()
    shapes = preparing.synthetic(model, 7)
    assert {len(value) for value in shapes.values()} == {7}
    assert set(shapes) == set(model.preprocessing.inputs)
    assert context.dataset.opened == set()
