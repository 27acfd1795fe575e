"""The networks that the built-in host trains: torchvision's ResNets, and anything timm builds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from rela_zoo.networks.small_maps import with_small_maps

# solo-learn's short names → timm's. The size and patch come from `backbone.kwargs`, as there.
_TIMM_NAMES = {
    **{f"vit_{size}": f"vit_{size}_patch16_224" for size in ("tiny", "small", "base", "large")},
    **{f"swin_{size}": f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base", "large")},
    **{f"convnext_{size}": f"convnext_{size}" for size in ("tiny", "small", "base", "large")},
    **{f"poolformer_{size}": f"poolformer_{size}" for size in ("s12", "s24", "s36", "m36", "m48")},
}
RESNETS = ("resnet18", "resnet50")
# Data sets of 32 pixels: their ResNets get a 3×3 stem without max-pooling.
SMALL_IMAGES = ("cifar10", "cifar100")


def backbone_names() -> list[str]:
    """The names shared with solo-learn; besides them, any timm architecture."""
    return [*RESNETS, *_TIMM_NAMES]


def timm_name(name: str) -> str:
    """timm's name of an architecture; a name that is not solo-learn's stays as it is."""
    return _TIMM_NAMES.get(name, name)


def is_backbone(name: str) -> bool:
    """Whether `build_backbone` knows this name."""
    import timm

    return name in RESNETS or timm.is_model(timm_name(name))


def build_backbone(name: str, kwargs: Mapping[str, Any], dataset: str) -> tuple[nn.Module, int]:
    """Build a network with random weights that maps images to features.

    Args:
        name: `resnet18`, `resnet50`, a short name of solo-learn's, or a timm architecture.
        kwargs: passed to its constructor.
        dataset: `data.dataset`; CIFAR gives the ResNets a 3×3 stem without max-pooling, as in solo-learn.

    Returns:
        The network, (B, 3, H, W) → (B, dim), and dim.
    """
    if name in RESNETS:
        from torchvision.models import resnet

        network = getattr(resnet, name)(**kwargs)
        dim = network.fc.in_features
        network.fc = nn.Identity()
        if dataset in SMALL_IMAGES:
            # Padding 2, not 1, is solo-learn's; kept so that the same configuration trains the same network.
            network.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=2, bias=False)
            network.maxpool = nn.Identity()
        return with_small_maps(network), dim
    import timm

    network = timm.create_model(timm_name(name), pretrained=False, num_classes=0, **kwargs)
    return network, int(network.num_features)
