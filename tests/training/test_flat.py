"""One flat buffer is the network: views, segments, support, and memory given back."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from assay.training.flat import Flat


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))


def flat_of(net: nn.Module, names: list[str] | None = None, **kw: object) -> Flat:
    names = [n for n, _ in net.named_parameters()] if names is None else names
    return Flat(net, names, lambda n: (1.0, not n.endswith("bias")), **kw)  # type: ignore[arg-type]


@pytest.mark.parametrize("channels_last", [False, True])
def test_gradients_and_updates_go_through_the_buffer(channels_last: bool) -> None:
    net, twin = network(), network()
    flat = flat_of(net, channels_last=channels_last)
    x = torch.randn(5, 2, 4, 4)
    net(x).square().sum().backward()
    twin(x).square().sum().backward()
    squares = torch.zeros(())
    for name, q in twin.named_parameters():
        assert q.grad is not None
        torch.testing.assert_close(net.get_parameter(name).grad, q.grad, msg=name)
        squares += q.grad.square().sum()
    torch.testing.assert_close(flat.grads.square().sum(), squares)
    flat.params.sub_(0.1 * flat.grads)
    with torch.no_grad():
        for q in twin.parameters():
            assert q.grad is not None
            q.sub_(0.1 * q.grad)
    torch.testing.assert_close(net(x), twin(x))


def test_segments_cover_the_buffer_and_split_by_rate_and_decay() -> None:
    net = network()
    flat = Flat(
        net,
        [n for n, _ in net.named_parameters()],
        lambda n: (10.0 if n.startswith("3") else 1.0, n.endswith("weight")),
    )
    assert [(s.rate, s.decays) for s in flat.segments] == [
        (1.0, False),
        (1.0, True),
        (10.0, False),
        (10.0, True),
    ]
    stops = [0, *(s.stop for s in flat.segments)]
    assert [s.start for s in flat.segments] == stops[:-1]
    assert stops[-1] == flat.size == sum(p.numel() for p in net.parameters())


def test_what_does_not_move_has_no_gradient_and_its_own_memory() -> None:
    net = network()
    frozen = net.get_parameter("0.weight").detach().clone()
    flat = flat_of(net, ["3.weight", "3.bias"])
    assert flat.size == 26
    net(torch.randn(1, 2, 4, 4)).sum().backward()
    assert net.get_parameter("0.weight").grad is None
    flat.params.zero_()
    torch.testing.assert_close(net.get_parameter("0.weight"), frozen, rtol=0, atol=0)


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_support_lies_where_its_parameter_lies(channels_last: bool) -> None:
    net = network()
    mask = torch.rand(3, 2, 3, 3, generator=torch.Generator().manual_seed(1)) > 0.5
    flat = flat_of(net, support={"0.weight": mask}, channels_last=channels_last)
    assert torch.equal(net.get_parameter("0.weight") != 0, mask)
    flat.params.fill_(1.0)
    flat.mask_()
    assert torch.equal(net.get_parameter("0.weight") == 1, mask)
    assert bool((net.get_parameter("3.weight") == 1).all())


def test_detach_gives_memory_back() -> None:
    net = network()
    flat = flat_of(net)
    values = {n: p.detach().clone() for n, p in net.named_parameters()}
    flat.detach()
    flat.params.zero_()
    for name, p in net.named_parameters():
        torch.testing.assert_close(p, values[name], rtol=0, atol=0)
        assert p.grad is None
        assert p.requires_grad


def test_tied_parameters_are_laid_out_once() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    flat = flat_of(net, [n for n, _ in net.named_parameters()])
    assert flat.size == 9 + 3 + 3
    flat.params.fill_(2.0)
    assert net.get_parameter("1.weight") is net.get_parameter("0.weight")
    assert bool((net.get_parameter("1.weight") == 2).all())


@given(st.lists(st.integers(1, 7), min_size=2, max_size=5))
def test_any_sizes_fit(sizes: list[int]) -> None:
    net = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(sizes)))
    flat = flat_of(net)
    assert flat.size == sum(p.numel() for p in net.parameters())
    flat.params.copy_(torch.arange(float(flat.size)).view(1, -1))
    seen = torch.cat([p.detach().reshape(-1) for p in net.parameters()]).sort().values
    assert torch.equal(seen, torch.arange(float(flat.size)))


def test_names_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="no such parameters"):
        flat_of(network(), ["nonsense"])
    with pytest.raises(ValueError, match="nothing moves"):
        flat_of(network(), [])
