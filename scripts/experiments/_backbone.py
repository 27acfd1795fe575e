"""The student's backbone."""

from __future__ import annotations

import timm
import torch
from torch import nn

from experiments._small_maps import replace_small_convolutions
from rela_zoo.networks.cifar_resnet import with_cifar_stem


def build_backbone(name: str, stem: str, *, trim: bool, zero_init: bool = False, size: int = 32) -> nn.Module:
    """An untrained timm network without classifier, (B, 3, H, W) → (B, D); initialised from torch's global generator.

    Args:
        name: timm architecture.
        stem: `imagenet` as it is, or `cifar`: 3×3 of stride 1, no max-pooling.
        trim: compute convolutions on tiny maps as matrix products, for images of this size only; the same function.
        zero_init: leave residual branches at zero where timm starts them so. Otherwise they begin with weight 1, as in
            torchvision and solo-learn. An untrained ResNet of zero branches sees a corner of the image alone (linear
            probe on CIFAR-10: 21 % instead of 36 %), which is no control and costs a short training its beginning.
        size: of the images in pixels.
    """
    network = timm.create_model(name, pretrained=False, num_classes=0)
    if not zero_init:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d) and not bool(module.weight.any()):
                nn.init.ones_(module.weight)
    if stem == "cifar":
        with_cifar_stem(network)
    if trim:
        replace_small_convolutions(network, torch.zeros(1, 3, size, size))
    return network.to(memory_format=torch.channels_last)
