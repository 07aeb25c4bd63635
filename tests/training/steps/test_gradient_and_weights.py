"""Clipping and averaging."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.config import build_part
from assay.training.parts import GradientPart, WeightsPart


def gradient_part(name: str, value: float) -> GradientPart:
    part = build_part("step", {name: value})
    assert isinstance(part, GradientPart)
    return part


def ema(decay: float) -> WeightsPart:
    part = build_part("step", {"ema": decay})
    assert isinstance(part, WeightsPart)
    return part


def clip(part: GradientPart, gradient: torch.Tensor) -> dict[str, torch.Tensor]:
    params = torch.zeros_like(gradient)
    return part.update(gradient, params, part.init(params), step=1)


def test_clip_norm_scales_each_client_to_the_bound() -> None:
    gradient = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    metrics = clip(gradient_part("clip_norm", 1.0), gradient)
    torch.testing.assert_close(gradient, torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))
    assert metrics["gradient_norm"].shape == ()
    assert float(metrics["gradient_norm"]) == pytest.approx((5 + 0.5 + 0) / 3)


def test_a_gradient_within_the_bound_is_not_touched() -> None:
    gradient = torch.tensor([[0.1234567, -0.7654321]])
    before = gradient.clone()
    metrics = clip(gradient_part("clip_norm", 1.0), gradient)
    assert torch.equal(gradient, before)
    assert float(metrics["gradient_norm"]) == pytest.approx(float(before.norm()))


@given(bound=st.floats(1e-3, 1e3), scale=st.floats(1e-4, 1e4), seed=st.integers(0, 99))
def test_clipped_norms_stay_clipped(bound: float, scale: float, seed: int) -> None:
    gradient = scale * torch.randn(2, 33, generator=torch.Generator().manual_seed(seed))
    direction = gradient / gradient.norm(dim=1, keepdim=True)
    clip(gradient_part("clip_norm", bound), gradient)
    norms = gradient.norm(dim=1, keepdim=True)
    assert bool((norms <= bound * (1 + 1e-6)).all())
    torch.testing.assert_close(gradient / norms, direction)


def test_a_gradient_that_is_no_number_is_not_hidden() -> None:
    gradient = torch.tensor([[1.0, float("nan")]])
    metrics = clip(gradient_part("clip_norm", 1.0), gradient)
    assert gradient.isnan().any()
    assert metrics["gradient_norm"].isnan()


def test_clip_value_clips_each_coordinate() -> None:
    gradient = torch.tensor([[3.0, -4.0, 0.25]])
    assert clip(gradient_part("clip_value", 0.5), gradient) == {}
    assert gradient.tolist() == [[0.5, -0.5, 0.25]]


@given(decay=st.floats(0.0, 0.999), steps=st.integers(1, 30))
def test_ema_is_the_closed_form(decay: float, steps: int) -> None:
    part = ema(decay)
    states = torch.randn(steps, 2, 5, generator=torch.Generator().manual_seed(3))
    # far away: the initial weights must have no share in the average
    state = part.init(torch.full((2, 5), 1e3))
    for step, params in enumerate(states, start=1):
        part.update(params, state, step=step)
    weights = torch.tensor([decay ** (steps - k) for k in range(1, steps + 1)], dtype=torch.float64)
    expected = torch.einsum("k,kcp->cp", weights / weights.sum(), states.double())
    torch.testing.assert_close(
        part.final(states[-1], state).double(), expected, rtol=1e-4, atol=1e-5
    )


def test_ema_of_constant_weights_is_exact_from_the_first_step() -> None:
    part, params = ema(0.9999), torch.tensor([[0.1, -7.3]])
    state = part.init(torch.zeros(1, 2))
    for step in range(1, 6):
        part.update(params, state, step=step)
        torch.testing.assert_close(part.final(params, state), params, rtol=1e-6, atol=0)


def test_ema_before_any_step_is_the_weights_and_shares_no_memory() -> None:
    part, params = ema(0.9), torch.ones(1, 3)
    state = part.init(params)
    params.fill_(5.0)
    assert part.final(params, state).tolist() == [[1.0, 1.0, 1.0]]


def test_zeros_stay_zero_under_ema() -> None:
    part, state = ema(0.9), ema(0.9).init(torch.zeros(1, 2))
    for step in range(1, 5):
        part.update(torch.tensor([[0.0, float(step)]]), state, step=step)
    assert float(state["average"][0, 0]) == 0.0
