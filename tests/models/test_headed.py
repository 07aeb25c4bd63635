"""Pooling and the head."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from assay.models.headed import Headed, Pool

STATES = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]], [[5.0, 6.0], [7.0, 8.0], [0.0, 1.0]]])
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])


def test_the_mean_is_over_real_tokens() -> None:
    expected = torch.tensor([[2.0, 3.0], [4.0, 5.0]])
    assert torch.equal(Pool("mean")(STATES, MASK), expected)
    assert torch.equal(Pool("mean")(STATES), STATES.mean(dim=1))
    assert torch.equal(Pool("cls")(STATES, MASK), STATES[:, 0])
    assert torch.equal(Pool("none")(STATES[:, 0]), STATES[:, 0])


def test_a_row_without_tokens_is_zero_not_nan() -> None:
    assert torch.equal(Pool("mean")(STATES, torch.zeros(2, 3)), torch.zeros(2, 2))


def test_the_mean_of_many_bfloat16_states_is_taken_in_float32() -> None:
    states = torch.full((1, 1000, 1), 1.0, dtype=torch.bfloat16)
    states[0, 0] = 1000.0
    pooled = Pool("mean")(states, torch.ones(1, 1000))
    assert pooled.dtype == torch.float32
    assert pooled.item() == pytest.approx((1000 + 999) / 1000, abs=1e-3)


class Trunk(nn.Module):
    """Gives an object with hidden states, as transformers do."""

    def forward(self, x: torch.Tensor, attention_mask: torch.Tensor) -> object:
        class Output:
            last_hidden_state = x

        return Output()


def test_backbone_pool_dropout_head() -> None:
    network = Headed(Trunk(), "mean", 2, 3, 0.5).eval()
    said = network(x=STATES, attention_mask=MASK)
    expected = network.head(torch.tensor([[2.0, 3.0], [4.0, 5.0]]))
    torch.testing.assert_close(said, expected)
    names = ["backbone", "pool", "dropout", "head", "calibration"]
    assert [name for name, _ in network.named_children()] == names
    network.train()
    torch.manual_seed(0)
    draws = {network(x=STATES, attention_mask=MASK)[0, 0].item() for _ in range(20)}
    assert len(draws) > 1
