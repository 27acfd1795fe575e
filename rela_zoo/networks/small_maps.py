"""Convolutions that don't multiply with padding."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SmallMapConv2d(nn.Conv2d):
    """A 3×3 convolution with padding 1 that meets a map of one pixel with its centre alone.

    The last stage of a ResNet with its ordinary stem sees such maps at 32 pixels: eight of nine weights would be
    multiplied with zeros. The same function, and the same weights by the same names.
    """

    @classmethod
    def of(cls, conv: nn.Conv2d) -> SmallMapConv2d:
        """The same convolution, sharing its parameters."""
        bias, channels = conv.bias is not None, (conv.in_channels, conv.out_channels)
        small = cls(*channels, 3, conv.stride[0], 1, bias=bias, device="meta")
        small.weight, small.bias = conv.weight, conv.bias
        return small.train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H', W')."""
        if x.shape[-2:] == (1, 1):
            return F.linear(x.flatten(1), self.weight[:, :, 1, 1], self.bias)[:, :, None, None]
        return super().forward(x)


def with_small_maps(network: nn.Module) -> nn.Module:
    """Let the plain 3×3 convolutions of a network be `SmallMapConv2d`s, in place; returns it."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Conv2d and _fits(child):
                setattr(module, name, SmallMapConv2d.of(child))
    return network


def _fits(conv: nn.Conv2d) -> bool:
    plain = conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros"
    plain = plain and conv.stride[0] == conv.stride[1]
    return plain and conv.kernel_size == (3, 3) and conv.padding == (1, 1)
