"""Residual networks for 32×32 images.

Two families share one loading rule (strict state dict): the thin 6n+2 networks of He et al. 2015, section 4.2, and
the wide ImageNet networks whose 7×7 stem is replaced by a 3×3 convolution without max-pooling.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _BasicBlock(nn.Module):
    """Two 3×3 convolutions with a parameter-free shortcut (option A of the paper: subsample, pad channels)."""

    def __init__(self, in_planes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self._stride = stride
        self._pad = (planes - in_planes) // 2

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        shortcut = x
        if self._stride != 1 or self._pad:
            shortcut = F.pad(x[:, :, :: self._stride, :: self._stride], (0, 0, 0, 0, self._pad, self._pad))
        return F.relu(out + shortcut)


class CifarResNet(nn.Module):
    """ResNet-(6n+2) for 32×32 images (He et al. 2015, section 4.2); 64 features.

    Args:
        depth: 6n+2 with n ≥ 1: 20, 32, 44, 56, 110.
        num_classes: outputs of the last linear layer; 0 leaves it out, so that calling returns the features.

    Raises:
        ValueError: if `depth` is not 6n+2.
    """

    num_features = 64

    def __init__(self, depth: int, num_classes: int = 0) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"expected a depth of 6n+2 (20, 32, 44, 56, …), got {depth}")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, stride=1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, stride=1)
        self.layer2 = self._stage(16, 32, blocks, stride=2)
        self.layer3 = self._stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, num_classes) if num_classes else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def _stage(in_planes: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
        first = _BasicBlock(in_planes, planes, stride)
        return nn.Sequential(first, *(_BasicBlock(planes, planes, 1) for _ in range(blocks - 1)))

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) float, normalised → features (B, 64) after global average pooling."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return torch.flatten(F.adaptive_avg_pool2d(out, 1), 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) float, normalised → logits (B, num_classes), or features (B, 64) without a head."""
        return self.linear(self.forward_features(x))


def with_cifar_stem(network: nn.Module, padding: int = 1) -> nn.Module:
    """Replace the ImageNet stem of a ResNet by the CIFAR one: 3×3 convolution of stride 1, no max-pooling.

    Args:
        network: a timm or torchvision ResNet with `conv1` and `maxpool`; changed in place and returned.
        padding: of the new convolution; 1 in published CIFAR networks, 2 in solo-learn's.
    """
    old = network.conv1
    if not isinstance(old, nn.Conv2d) or not hasattr(network, "maxpool"):
        raise TypeError(f"expected a ResNet with `conv1` and `maxpool`, got {type(network).__name__}")
    network.conv1 = nn.Conv2d(old.in_channels, old.out_channels, 3, stride=1, padding=padding, bias=False)
    network.maxpool = nn.Identity()
    return network
