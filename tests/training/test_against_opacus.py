"""Where Opacus works, its gradients of rows, clipped and summed, are our clipped sums."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.clipping import PLAYER, batch_of, books_for, kept, plain, rowwise
from torch import nn

from assay.training.bookkeeping.engine import Clip

opacus = pytest.importorskip("opacus", minversion="1.5")

Tensor = torch.Tensor


def dense() -> tuple[nn.Sequential, Tensor]:
    layers = nn.Linear(5, 7), nn.Tanh(), nn.LayerNorm(7), nn.Linear(7, 3)
    return nn.Sequential(*layers), torch.randn(6, 5)


def tokens() -> tuple[nn.Sequential, Tensor]:
    layers = nn.Embedding(9, 6), nn.Linear(6, 5), nn.ReLU(), nn.LayerNorm(5), nn.Linear(5, 2)
    return nn.Sequential(*layers), torch.randint(0, 9, (6, 4))


def images() -> tuple[nn.Sequential, Tensor]:
    layers = (
        nn.Conv2d(2, 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, groups=2),
        nn.Flatten(),
        nn.Linear(54, 3),
    )
    return nn.Sequential(*layers), torch.randn(6, 2, 8, 8)


def lines() -> tuple[nn.Sequential, Tensor]:
    layers = nn.Conv1d(2, 4, 3, dilation=2), nn.InstanceNorm1d(4, affine=True), nn.Conv1d(4, 3, 2)
    return nn.Sequential(*layers), torch.randn(6, 2, 12)


MAKERS: dict[str, Callable[[], tuple[nn.Sequential, Tensor]]] = {
    "dense": dense,
    "tokens": tokens,
    "images": images,
    "lines": lines,
}


def their_gradients(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Gradients of rows by Opacus, `[N, *shape]`."""
    twin = copy.deepcopy(network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of hooks on modules, which are the point
        wrapped: Any = opacus.GradSampleModule(twin, loss_reduction="sum")
        losses: Any = rowwise(wrapped(x))
        losses.sum().backward()
    grads: dict[str, Any] = dict(twin.named_parameters())
    return {name: parameter.grad_sample.detach() for name, parameter in grads.items()}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", sorted(MAKERS))
def test_clipped_sums_are_those_of_opacus(name: str, seed: int) -> None:
    torch.manual_seed(seed)
    network, x = MAKERS[name]()
    theirs = their_gradients(network, x)
    norms = torch.stack([g.flatten(1).square().sum(1) for g in theirs.values()]).sum(0).sqrt()
    bound = float(norms.median())
    factors = (bound / norms).clamp(max=1.0)
    networks, batch, clip = {PLAYER: network}, batch_of({"input": x}), Clip(bound)
    # no use is known of the scales of instance norms: their units go one by one
    odd = {n for n in theirs if isinstance(network[int(n[0])], nn.InstanceNorm1d)}
    books = books_for(networks, clip, odd=frozenset(f"model:{n}" for n in odd))
    ours = kept(networks, batch, clip, plain, books=books)
    torch.testing.assert_close(books.norms[PLAYER], norms, rtol=1e-5, atol=1e-6)
    for key, gradients in theirs.items():
        want = torch.einsum("n,n...->...", factors, gradients)
        torch.testing.assert_close(ours[f"model:{key}"], want, rtol=1e-5, atol=1e-5)
