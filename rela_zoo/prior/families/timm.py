"""Architectures of timm."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from rela_zoo.errors import RegistryError, UnknownPriorError
from rela_zoo.networks.cifar_resnet import with_cifar_stem
from rela_zoo.prior.families._base import Family
from rela_zoo.prior.families._efficientnet_names import to_timm_names
from rela_zoo.registry import Preprocessing, PriorSpec
from rela_zoo.registry import timm_preprocessing as of_config


class Timm(Family):
    """Whatever `timm.create_model` builds, a ResNet also with the stem of CIFAR."""

    name = "timm"

    def build(self, spec: PriorSpec) -> nn.Module:
        network = _create(spec)
        if spec.stem == "cifar":
            try:
                with_cifar_stem(network, padding=spec.stem_padding)
            except (TypeError, AttributeError) as error:
                raise RegistryError(
                    f"prior {spec.id!r} can't have a CIFAR stem",
                    expected="a ResNet with `conv1` and `maxpool` as architecture",
                    got=spec.architecture,
                ) from error
        return network

    def heads(self, spec: PriorSpec, network: nn.Module) -> tuple[str, ...]:
        named = _config(network).get("classifier") or ()
        return (named,) if isinstance(named, str) else tuple(named)

    def to_own_names(self, network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """EfficientNet-PyTorch's names; then timm's own conversion (whole CLIP, other position grids) if it has one."""
        state = to_timm_names(network, state)
        module = sys.modules[type(network).__module__]
        convert: Callable[..., dict[str, Tensor]] | None = getattr(module, "checkpoint_filter_fn", None)
        if convert is None or not module.__name__.startswith("timm."):
            return state
        if len(inspect.signature(convert).parameters) < 2:
            return state
        return convert(state, network)

    def preprocessing(self, spec: PriorSpec, network: nn.Module) -> Preprocessing:
        return timm_preprocessing(network)


def check_architecture(spec: PriorSpec) -> None:
    """Refuse an architecture that timm does not have.

    Raises:
        UnknownPriorError: with the nearest names.
    """
    import timm

    if not timm.is_model(spec.architecture):
        near = difflib.get_close_matches(spec.architecture, timm.list_models(), n=3)
        raise UnknownPriorError(
            f"timm {timm.__version__} has no architecture {spec.architecture!r}",
            expected="a name from timm.list_models(), without tag",
            got=spec.architecture,
            fix=f"did you mean {', '.join(near)}?" if near else None,
        )


def _create(spec: PriorSpec) -> nn.Module:
    import timm

    check_architecture(spec)
    # The image projection of a CLIP tower is timm's classifier; without one, timm gives the pooled features.
    classes = spec.dim if spec.layer == "projection" else 0
    try:
        return timm.create_model(spec.architecture, pretrained=False, num_classes=classes, **spec.model_args)
    except Exception as error:  # of the constructor of any architecture, for arguments that it does not take
        raise RegistryError(
            f"timm can't build the architecture of {spec.id!r}",
            expected=f"arguments that {spec.architecture} takes",
            got=f"{dict(spec.model_args)}: {' '.join(str(error).split())[:300]}",
            fix="correct model_args in the entry",
        ) from error


def _config(network: nn.Module) -> Mapping[str, Any]:
    """timm's own facts about a network it built."""
    config: Any = network.pretrained_cfg
    return dict(config)


def timm_preprocessing(network: nn.Module) -> Preprocessing:
    """What timm's configuration of a network says about its input."""
    config = _config(network)
    size = int(config["input_size"][-1])
    # An untrained network has no weights whose preparation would be right: the plain one does.
    plain = {"crop_pct": 1.0, "interpolation": "bilinear", **config, "crop_mode": "center"}
    return of_config({**plain, "input_size": (3, size, size)}, type(network).__name__)
