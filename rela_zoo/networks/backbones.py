"""The networks that the built-in host trains: torchvision's ResNets, and anything timm builds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from rela_zoo.networks.names import RESNETS, stem_of, timm_name
from rela_zoo.networks.small_maps import with_small_maps


def is_backbone(name: str) -> bool:
    """Whether `build_backbone` knows this name."""
    import timm

    return name in RESNETS or timm.is_model(timm_name(name))


def build_backbone(
    name: str, kwargs: Mapping[str, Any], dataset: str, stem: str | None = None
) -> tuple[nn.Module, int]:
    """Build a network with random weights that maps images to features.

    Args:
        name: `resnet18`, `resnet50`, a short name of solo-learn's, or a timm architecture.
        kwargs: passed to its constructor.
        dataset: `data.dataset`.
        stem: of a ResNet: `imagenet`, 7×7 with max-pooling, or `cifar`, 3×3 without; None goes by the data set.

    Returns:
        The network, (B, 3, H, W) → (B, dim), and dim.
    """
    if name in RESNETS:
        from torchvision.models import resnet

        network = getattr(resnet, name)(**kwargs)
        dim = network.fc.in_features
        network.fc = nn.Identity()
        if (stem or stem_of(dataset)) == "cifar":
            # Padding 2, not 1, is solo-learn's; kept so that the same configuration trains the same network.
            network.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=2, bias=False)
            network.maxpool = nn.Identity()
        return with_small_maps(network), dim
    import timm

    network = timm.create_model(timm_name(name), pretrained=False, num_classes=0, **kwargs)
    return network, int(network.num_features)
