"""Convolutions on maps of one pixel: the same function with a ninth of the products."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from rela_zoo.networks.small_maps import SmallMapConv2d, with_small_maps


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_values_and_gradients_are_those_of_the_plain_convolution(size: int, bias: bool, stride: int) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 8, 3, stride, 1, bias=bias)
    small = SmallMapConv2d.of(copy.deepcopy(plain))
    images = torch.randn(4, 6, size, size, requires_grad=True)
    again = images.detach().clone().requires_grad_()
    plain(images).square().sum().backward()
    small(again).square().sum().backward()
    assert torch.allclose(small(again), plain(images), atol=1e-6)
    assert torch.allclose(again.grad, images.grad, atol=1e-5)
    for one, other in zip(small.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-5)


def test_a_network_keeps_its_names_and_weights() -> None:
    network = resnet18()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = torch.randn(2, 3, 32, 32)
    wanted = network.eval()(images)
    with_small_maps(network)
    assert sum(isinstance(module, SmallMapConv2d) for module in network.modules()) == 16
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert list(network.state_dict()) == list(before)
    assert torch.allclose(network(images), wanted, atol=1e-5)


@pytest.mark.parametrize(
    "conv", [nn.Conv2d(4, 4, 3, padding=0), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 4, 3, 1, 1, 2)]
)
def test_other_convolutions_stay(conv: nn.Conv2d) -> None:
    assert with_small_maps(nn.Sequential(conv))[0] is conv
