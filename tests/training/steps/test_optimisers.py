"""Optimisers against closed forms, against torch.optim, and over several clients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay import registry
from assay.claims import DataCard, ModelCard, PlanContext
from assay.config import build_part, dump_part
from assay.errors import UsageError
from assay.training.parts import Optimiser

STEPS = 20
OPTIMISERS = ["adagrad", "adam", "adamw", "rmsprop", "sgd"]
CONTEXT = PlanContext(model=ModelCard(name="m"), data=DataCard(name="d"), task=None)


def make(name: str, **settings: Any) -> Optimiser:
    part = build_part("step", {name: settings})
    assert isinstance(part, Optimiser)
    return part


def gradients(size: int, clients: int = 1, steps: int = STEPS) -> torch.Tensor:
    return torch.randn(steps, clients, size, generator=torch.Generator().manual_seed(1))


def start(size: int, clients: int = 1) -> torch.Tensor:
    return torch.randn(clients, size, generator=torch.Generator().manual_seed(2))


def run(part: Optimiser, params: torch.Tensor, grads: torch.Tensor) -> torch.Tensor:
    """`params` after one update a gradient, in place."""
    state = part.init(params)
    for step, grad in enumerate(grads, start=1):
        part.update(
            params, grad.clone(), state, step=step, lr=part.lr, weight_decay=part.weight_decay
        )
    return params


def oracle(part: Optimiser, params: torch.Tensor, grads: torch.Tensor) -> torch.Tensor:
    """The same by torch's plain (not fused) optimiser."""
    leaf = torch.nn.Parameter(params.clone())
    common = {"lr": part.lr, "weight_decay": part.weight_decay, "foreach": False}
    own = part.model_dump(exclude={"lr", "weight_decay", "decay_all", "rates", "layer_decay"})
    kind, settings = {
        "sgd": (torch.optim.SGD, own),
        "adam": (torch.optim.Adam, own),
        "adamw": (torch.optim.AdamW, own),
        "adagrad": (torch.optim.Adagrad, own),
        "rmsprop": (torch.optim.RMSprop, own),
    }[part.part_name]
    if "beta1" in settings:
        settings["betas"] = (settings.pop("beta1"), settings.pop("beta2"))
    for ours, theirs in (
        ("initial", "initial_accumulator_value"),
        ("rate_decay", "lr_decay"),
        ("smoothing", "alpha"),
    ):
        if ours in settings:
            settings[theirs] = settings.pop(ours)
    optimiser = kind([leaf], **common, **settings)
    for grad in grads:
        leaf.grad = grad.clone()
        optimiser.step()
    return leaf.detach()


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


rates = st.floats(1e-4, 0.1)
decays = st.sampled_from([0.0, 1e-3, 0.1])
betas = st.floats(0.0, 0.999)


@given(lr=rates, decay=decays, momentum=st.floats(0.0, 0.99), dampening=st.floats(0.0, 1.0))
def test_sgd_equals_torch(lr: float, decay: float, momentum: float, dampening: float) -> None:
    part = make("sgd", lr=lr, weight_decay=decay, momentum=momentum, dampening=dampening)
    close(run(part, start(7), gradients(7)), oracle(part, start(7), gradients(7)))


@given(lr=rates, decay=decays, momentum=st.floats(0.01, 0.99))
def test_nesterov_equals_torch(lr: float, decay: float, momentum: float) -> None:
    part = make("sgd", lr=lr, weight_decay=decay, momentum=momentum, nesterov=True)
    close(run(part, start(7), gradients(7)), oracle(part, start(7), gradients(7)))


@pytest.mark.parametrize("name", ["adam", "adamw"])
@given(lr=rates, decay=decays, beta1=betas, beta2=st.floats(0.5, 0.9999))
def test_adam_equals_torch(name: str, lr: float, decay: float, beta1: float, beta2: float) -> None:
    part = make(name, lr=lr, weight_decay=decay, beta1=beta1, beta2=beta2)
    close(run(part, start(7), gradients(7)), oracle(part, start(7), gradients(7)))


@given(lr=rates, decay=decays, rate_decay=st.floats(0.0, 1.0), initial=st.floats(0.0, 2.0))
def test_adagrad_equals_torch(lr: float, decay: float, rate_decay: float, initial: float) -> None:
    part = make("adagrad", lr=lr, weight_decay=decay, rate_decay=rate_decay, initial=initial)
    close(run(part, start(7), gradients(7)), oracle(part, start(7), gradients(7)))


@given(lr=rates, decay=decays, smoothing=st.floats(0.1, 0.999), momentum=st.floats(0.0, 0.95))
def test_rmsprop_equals_torch(lr: float, decay: float, smoothing: float, momentum: float) -> None:
    part = make("rmsprop", lr=lr, weight_decay=decay, smoothing=smoothing, momentum=momentum)
    close(run(part, start(7), gradients(7)), oracle(part, start(7), gradients(7)))


@given(lr=rates, decay=decays, momentum=st.floats(0.0, 0.95))
def test_centred_rmsprop_equals_torch(lr: float, decay: float, momentum: float) -> None:
    # eps is well above rounding: where the variance is nearly zero both are dominated by it
    settings = {"momentum": momentum, "centered": True, "eps": 1e-3}
    part = make("rmsprop", lr=lr, weight_decay=decay, **settings)
    close(run(part, start(7), gradients(7)), oracle(part, start(7), gradients(7)))


def test_centred_rmsprop_of_a_constant_gradient_stays_finite() -> None:
    part = make("rmsprop", lr=0.01, centered=True, smoothing=0.1)
    grads = torch.full((200, 1, 3), 0.3)
    assert torch.isfinite(run(part, torch.zeros(1, 3), grads)).all()


def one_step(name: str, w: float, g: float, **settings: Any) -> float:
    return float(run(make(name, **settings), torch.tensor([[w]]), torch.tensor([[[g]]])))


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        # w = 2, g = 0.5, lr = 0.1, decay = 0.01: L2 decay makes the gradient 0.52
        ("sgd", {}, 2 - 0.1 * 0.52),
        ("sgd", {"momentum": 0.9}, 2 - 0.1 * 0.52),
        ("sgd", {"momentum": 0.9, "dampening": 0.5}, 2 - 0.1 * 0.52),
        ("sgd", {"momentum": 0.9, "nesterov": True}, 2 - 0.1 * (0.52 + 0.9 * 0.52)),
        # both corrected moments are the gradient's: the step is lr, whatever the gradient's size
        ("adam", {}, 2 - 0.1 * 0.52 / (0.52 + 1e-8)),
        # decoupled: 2 * (1 - 0.1 * 0.01), then the step of the undecayed gradient
        ("adamw", {}, 2 * 0.999 - 0.1 * 0.5 / (0.5 + 1e-8)),
        ("adagrad", {}, 2 - 0.1 * 0.52 / (0.52 + 1e-10)),
        ("adagrad", {"initial": 1.0}, 2 - 0.1 * 0.52 / (math.sqrt(1 + 0.52**2) + 1e-10)),
        ("rmsprop", {}, 2 - 0.1 * 0.52 / (0.1 * 0.52 + 1e-8)),
        (
            "rmsprop",
            {"centered": True},
            2 - 0.1 * 0.52 / (math.sqrt(0.01 * 0.52**2 - (0.01 * 0.52) ** 2) + 1e-8),
        ),
    ],
)
def test_first_steps_are_the_closed_forms(
    name: str, settings: dict[str, Any], expected: float
) -> None:
    settings = {"lr": 0.1, "weight_decay": 0.01, **settings}
    assert one_step(name, 2.0, 0.5, **settings) == pytest.approx(expected, abs=1e-6)


def test_adam_after_two_steps_is_the_closed_form() -> None:
    part = make("adam", lr=0.1, beta1=0.8, beta2=0.9)
    got = float(run(part, torch.tensor([[1.0]]), torch.tensor([[[2.0]], [[-1.0]]])))
    mean = (0.2 * (0.8 * 2.0 + -1.0)) / (1 - 0.8**2)
    square = (0.1 * (0.9 * 4.0 + 1.0)) / (1 - 0.9**2)
    assert got == pytest.approx(1.0 - 0.1 - 0.1 * mean / math.sqrt(square), abs=1e-6)


def canonical() -> list[Optimiser]:
    classes = [registry.find("step", name) for name in OPTIMISERS]
    return [e for cls in classes if issubclass(cls, Optimiser) for e in cls.examples()]


@pytest.mark.parametrize("part", canonical(), ids=lambda p: p.part_name)
def test_clients_equal_separate_runs(part: Optimiser) -> None:
    size, clients = 37, 3
    together = run(part, start(size, clients), gradients(size, clients))
    for c in range(clients):
        alone = run(part, start(size, clients)[c : c + 1], gradients(size, clients)[:, c : c + 1])
        close(together[c : c + 1], alone)


@pytest.mark.parametrize("part", canonical(), ids=lambda p: p.part_name)
def test_a_segment_of_several_clients_leaves_the_others_alone(part: Optimiser) -> None:
    """Fused kernels ignore strides: a segment of `[C, P]` is not contiguous when C > 1."""
    params, grads = start(10, 3), gradients(10, 3)
    before = params.clone()
    run(part, params[:, 6:], grads[:, :, 6:])
    assert torch.equal(params[:, :6], before[:, :6])
    close(params[:, 6:], run(part, before[:, 6:].contiguous(), grads[:, :, 6:].contiguous()))


@pytest.mark.parametrize("part", canonical(), ids=lambda p: p.part_name)
def test_a_large_segment_equals_torch(part: Optimiser) -> None:
    size = (1 << 16) + 5
    grads = gradients(size, steps=3)
    close(run(part, start(size), grads), oracle(part, start(size), grads))


@pytest.mark.parametrize("part", canonical(), ids=lambda p: p.part_name)
def test_the_gradient_is_not_changed_and_the_state_is_all(part: Optimiser) -> None:
    params, grads = start(9), gradients(9)
    state = part.init(params)
    for step in range(1, 11):
        grad = grads[step - 1].clone()
        part.update(params, grad, state, step=step, lr=part.lr, weight_decay=part.weight_decay)
        assert torch.equal(grad, grads[step - 1])
        if step == 5:
            saved = params.clone(), {name: value.clone() for name, value in state.items()}
    again, held = saved
    for step in range(6, 11):
        part.update(
            again, grads[step - 1], held, step=step, lr=part.lr, weight_decay=part.weight_decay
        )
    assert torch.equal(again, params)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_settings_survive_the_way_through_yaml(name: str) -> None:
    part = build_part("step", {name: 0.5})
    assert part.lr == 0.5
    assert build_part("step", dump_part(part)) == part


@pytest.mark.parametrize(
    "settings", [{"nesterov": True}, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}]
)
def test_nesterov_is_refused_without_momentum(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="nesterov needs momentum and no dampening; set momentum"):
        make("sgd", lr=0.1, **settings)


def test_only_plain_sgd_takes_the_gradient_times_a_rate() -> None:
    breaks = {
        (p.part_name, "sgd_updates" in p.capabilities(CONTEXT).breaks)
        for p in [*canonical(), make("sgd", lr=0.1)]
    }
    assert breaks == {
        ("sgd", False),
        ("sgd", True),
        ("adam", True),
        ("adamw", True),
        ("adagrad", True),
        ("rmsprop", True),
    }
