from __future__ import annotations

import pytest
import torch
from experiments._backbone import build_backbone
from experiments._small_maps import SmallMapConv2d
from torch import nn


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        (1, 3, 1, 1),
        (2, 3, 2, 1),
        (2, 3, 1, 1),
        (2, 1, 2, 0),
        (1, 1, 1, 0),
        (4, 3, 2, 1),
        (2, 1, 1, 0),
        (3, 7, 2, 3),
        (1, 5, 1, 2),
    ],
)
def test_it_is_the_convolution(size: int, kernel: int, stride: int, padding: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 7, kernel, stride, padding, bias=False)
    small = SmallMapConv2d(conv, (size, size))
    x = torch.randn(4, 5, size, size)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    a, b = small(ours), conv(theirs)
    torch.testing.assert_close(a, b)
    direction = torch.randn_like(b)
    a.backward(direction)
    b.backward(direction)
    torch.testing.assert_close(ours.grad, theirs.grad)
    # Every weight that has a gradient in the convolution is here, with the same one; no other is.
    kept = conv.weight.grad[:, :, (conv.weight.grad != 0).any(3).any(0).any(0)][
        ..., (conv.weight.grad != 0).any(2).any(0).any(0)
    ]
    torch.testing.assert_close(small.weight.grad, kept.permute(2, 3, 1, 0).reshape(-1, 7))


def test_a_whole_network_keeps_its_function_and_its_training() -> None:
    networks = []
    for trim in (False, True):
        torch.manual_seed(0)
        # In double precision, for AdamW makes much of the rounding of a gradient near zero.
        networks.append(build_backbone("resnet18", "imagenet", trim=trim).double())
    plain, trimmed = networks
    assert sum(isinstance(m, SmallMapConv2d) for m in trimmed.modules()) == 10
    assert sum(p.numel() for p in trimmed.parameters()) < sum(p.numel() for p in plain.parameters()) / 2
    images = torch.randn(8, 3, 32, 32, dtype=torch.float64)
    optimizers = [torch.optim.AdamW(network.parameters(), lr=1e-3) for network in networks]
    for _ in range(2):
        outputs = [network(images) for network in networks]
        torch.testing.assert_close(*outputs)
        for output, optimizer in zip(outputs, optimizers, strict=True):
            optimizer.zero_grad()
            output.square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(plain.conv1.weight.grad, trimmed.conv1.weight.grad)


def test_the_heads_drawn_afterwards_are_the_same() -> None:
    draws = []
    for trim in (False, True):
        torch.manual_seed(0)
        build_backbone("resnet18", "imagenet", trim=trim)
        draws.append(torch.rand(1))
    assert torch.equal(*draws)


def test_the_cifar_stem_has_no_small_maps() -> None:
    network = build_backbone("resnet18", "cifar", trim=True)
    assert not any(isinstance(m, SmallMapConv2d) for m in network.modules())


def test_branches_start_at_one_unless_told_otherwise() -> None:
    for zero_init, start in ((False, 1.0), (True, 0.0)):
        network = build_backbone("resnet18", "imagenet", trim=False, zero_init=zero_init)
        assert network.layer1[0].bn2.weight.tolist() == [start] * 64
