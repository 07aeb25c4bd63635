"""Clipped sums equal a loop over units for objectives of several passes; nothing stays behind."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.clipping import (
    PLAYER,
    Inputs,
    Networks,
    batch_of,
    books_for,
    check,
    kept,
    rowwise,
)
from torch import nn

from assay.errors import UsageError
from assay.training.bookkeeping.engine import Clip
from assay.training.flat import Flat

Tensor = torch.Tensor
TWO_EACH = torch.tensor([0, 0, 1, 1, 2, 2])


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# -- objectives -----------------------------------------------------------------------------------


def trades(networks: Networks, inputs: Inputs) -> dict[str, Tensor]:
    """Two passes of each row, whose terms mix in the gradient of one unit."""
    x = inputs["input"]
    clean = networks[PLAYER](input=x)
    moved = networks[PLAYER](input=x + 0.3 * x.sign())
    return {PLAYER: rowwise(clean) + 2.0 * (clean.softmax(1) - moved.softmax(1)).square().sum(1)}


OBJECTIVE_NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "dense": lambda: (
        nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.ReLU(inplace=True), nn.Linear(5, 3)),
        torch.randn(6, 4),
    ),
    "convolutions": lambda: (
        nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)
        ),
        torch.randn(6, 2, 5, 5),
    ),
}  # fmt: skip


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("kind", sorted(OBJECTIVE_NETWORKS))
def test_two_passes_of_a_unit_have_their_cross_terms(kind: str, grouped: bool) -> None:
    network, x = OBJECTIVE_NETWORKS[kind]()
    assert not check(network, {"input": x}, TWO_EACH if grouped else None, objective=trades)


def attacked(networks: Networks, inputs: Inputs, how: str = "grad") -> dict[str, Tensor]:
    """TRADES with its attack: several passes, and gradients with respect to the inputs."""
    network, x = networks[PLAYER], inputs["input"]
    clean = network(input=x)
    target = clean.detach().softmax(1)
    moved = x + 0.05 * torch.cos(17 * x)
    for _ in range(3):
        moved = moved.detach().requires_grad_(True)
        loss = -(target * network(input=moved).log_softmax(1)).sum()
        if how == "grad":
            (grad,) = torch.autograd.grad(loss, moved)
        else:
            network.zero_grad()
            loss.backward()
            assert moved.grad is not None
            grad = moved.grad
        moved = moved + 0.1 * grad.sign()
    moved = moved.detach()
    rows = -(target * network(input=moved).log_softmax(1)).sum(1)
    return {PLAYER: rowwise(clean) + rows}


@pytest.mark.parametrize("how", ["grad", "backward"])
@pytest.mark.parametrize("kind", sorted(OBJECTIVE_NETWORKS))
def test_an_attack_within_the_objective_changes_nothing(kind: str, how: str) -> None:
    """Where Opacus gives another update without a word."""
    network, x = OBJECTIVE_NETWORKS[kind]()
    check(network, {"input": x}, objective=lambda n, i: attacked(n, i, how))


def test_what_an_attack_leaves_in_gradients_is_dropped_and_what_was_there_stays() -> None:
    network = nn.Bilinear(3, 3, 2)  # which no use is known of: its gradient is torch's own
    books = books_for({PLAYER: network}, Clip(1.0), odd=frozenset({"model:weight", "model:bias"}))
    before = torch.randn_like(network.weight)
    network.weight.grad = before.clone()
    x = torch.randn(4, 3)
    with books.watching(batch_of({"input": x})):
        moved = x.clone().requires_grad_(True)
        network(moved, moved).sum().backward()
        assert moved.grad is not None
        network.zero_grad()
    assert network.weight.grad is not None
    assert torch.equal(network.weight.grad, before)


def test_players_move_by_their_own_losses_within_one_bound() -> None:
    networks = {
        PLAYER: nn.Sequential(nn.Linear(3, 4), nn.Tanh()),
        "features": nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3, eps=0.1)),
    }

    def matched(networks: Networks, inputs: Inputs) -> dict[str, Tensor]:
        rows = rowwise(networks["features"](input=networks[PLAYER](**inputs)))
        return {PLAYER: rows, "features": 2 * rows}

    inputs = {"input": torch.randn(6, 3)}
    for units in (None, TWO_EACH):
        check(networks, inputs, units, matched, share=0.5**0.5)
    # one unit's part in both players together is within the bound
    one = {k: v[:1] for k, v in inputs.items()}
    got = kept(networks, batch_of(one), Clip(1e-3), matched, share=0.5**0.5)
    length = torch.stack([g.square().sum() for g in got.values()]).sum().sqrt()
    assert float(length) == pytest.approx(1e-3, rel=1e-4)


def test_a_gradient_of_a_gradient_is_refused() -> None:
    def penalty(networks: Networks, inputs: Inputs) -> dict[str, Tensor]:
        x = inputs["input"].clone().requires_grad_(True)
        rows = rowwise(networks[PLAYER](input=x))
        (grad,) = torch.autograd.grad(rows.sum(), x, create_graph=True)
        return {PLAYER: rows + grad.square().sum(1)}

    network = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1))
    with pytest.raises(UsageError, match="gradient of a gradient"):
        check(network, {"input": torch.randn(4, 3)}, objective=penalty)


# -- capture leaves nothing behind ----------------------------------------------------------------


def working(network: nn.Sequential, x: Tensor) -> None:
    """All that others do with a network; fails where something is in the way."""
    twin = copy.deepcopy(network)
    assert type(twin) is nn.Sequential
    assert isinstance(twin[0], nn.Conv2d)
    twin.load_state_dict(network.state_dict())
    for module in network.modules():
        assert "forward" not in module.__dict__
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
    assert torch.equal(twin(x), network(x))


def test_the_network_stays_itself_while_and_after() -> None:
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(27, 2)
    )
    x, batch = torch.randn(4, 2, 5, 5), batch_of({"input": torch.randn(4, 2, 5, 5)})
    names = list(network.state_dict())
    books = books_for({PLAYER: network}, Clip(1.0))
    working(network, x)
    with books.watching(batch):
        losses = rowwise(network(batch.inputs["input"]))
        working(network, x)
        seen = saliency(network, x)
    books.backward({PLAYER: losses}, 4, {})
    working(network, x)
    assert list(network.state_dict()) == names
    assert torch.equal(seen, saliency(network, x))


def saliency(network: nn.Module, x: Tensor) -> Tensor:
    """What explanations compute (captum's saliency)."""
    asked = x.clone().requires_grad_(True)
    (grad,) = torch.autograd.grad(network(asked)[:, 0].sum(), asked)
    return grad


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_export_works_while_a_private_stage_holds_the_network() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    names = [name for name, _ in network.named_parameters()]
    flat = Flat(network, names, lambda _: (1.0, True))
    books = books_for({PLAYER: network}, Clip(1.0))
    x = torch.randn(4, 3)
    with books.watching(batch_of({"input": x})):
        losses = rowwise(network(x))
    file = io.BytesIO()
    export: Any = torch.onnx.export
    export(network, (x,), file, dynamo=False)  # between forward and backward
    books.backward({PLAYER: losses}, 4, {PLAYER: flat})
    assert bool(flat.grads.any())
    session = onnxruntime.InferenceSession(file.getvalue())
    (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(out, network(x).detach().numpy(), atol=1e-5)
