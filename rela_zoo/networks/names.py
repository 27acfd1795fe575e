"""Names of the networks that the built-in host trains; light, so that configurations can be checked without torch."""

from __future__ import annotations

# solo-learn's short names → timm's. The size and patch come from `backbone.kwargs`, as there.
TIMM_NAMES = {
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
    return [*RESNETS, *TIMM_NAMES]


def timm_name(name: str) -> str:
    """timm's name of an architecture; a name that is not solo-learn's stays as it is."""
    return TIMM_NAMES.get(name, name)


def stem_of(dataset: object) -> str:
    """The stem of a ResNet where nothing else is said: `cifar` for CIFAR, as in solo-learn, else `imagenet`."""
    return "cifar" if dataset in SMALL_IMAGES else "imagenet"
