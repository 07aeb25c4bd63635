"""Catching what modules give, without leaving anything on them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from assay.training.capture import capturing, tensors_of


def test_outputs_are_caught_with_their_gradients_and_nothing_is_left() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))
    caught: dict[str, torch.Tensor] = {}
    x = torch.randn(4, 3)
    with capturing(network, ("0", "1"), caught):
        result = network(x)
    torch.testing.assert_close(caught["0"], network[0](x))
    torch.testing.assert_close(network[2](caught["1"]), result)
    assert caught["1"].requires_grad
    assert all(not module._forward_hooks for module in network.modules())


def test_hooks_go_when_the_forward_fails() -> None:
    caught: dict[str, torch.Tensor] = {}
    network = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(RuntimeError), capturing(network, ("0",), caught):
        network(torch.zeros(1, 5))
    assert not network[0]._forward_hooks
    with pytest.raises(KeyError), capturing(network, ("0", "none"), caught):
        raise AssertionError
    assert not network[0]._forward_hooks


@pytest.mark.parametrize(
    ("output", "count"),
    [
        (torch.zeros(1), 1),
        ((torch.zeros(1), None, torch.zeros(2)), 2),
        ({"last_hidden_state": torch.zeros(1), "n": 3}, 1),
        (None, 0),
        ("text", 0),
    ],
)
def test_tensors_of_any_output(output: Any, count: int) -> None:
    assert len(tensors_of(output)) == count
