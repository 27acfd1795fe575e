"""The backbone of a training checkpoint, of solo-learn or of the built-in host: strictly that, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rela_zoo.data.statistics import IMAGENET, NORMALISATION
from rela_zoo.errors import WeightsError
from rela_zoo.networks.backbones import build_backbone
from rela_zoo.networks.names import RESNETS, stem_of, timm_name

_PREFIX = "backbone."
_BUILTIN = "rela_zoo_run"
# Files that the two hosts write beside their checkpoints.
_CONFIGS = ("args.json", "config.json")
_MAX_CONFIG_BYTES = 4 << 20


@dataclass(frozen=True)
class Backbone:
    """A trained network taken out of a checkpoint.

    Attributes:
        network: as its host builds it, with the trained weights, floating-point ones as float32.
        fields: of a registry entry: architecture, model_args, stem, stem_padding.
        preprocessing: fields of the preprocessing its training used, as far as the configuration says.
        made_by: host, method and epoch, for people.
        training: host, method, prior, data_ratio, epochs and steps, as far as they are known; without a `rela` section
            the prior is None and the ratio 1.
        mirrored: how often its training's views were mirrored, a probability.
    """

    network: nn.Module
    fields: dict[str, Any]
    preprocessing: dict[str, Any]
    made_by: str
    training: dict[str, Any]
    mirrored: float


def read_backbone(path: Path) -> Backbone:
    """Take the backbone out of a checkpoint and prove that it is whole.

    The file is the user's own; it is read without unpickling objects. Its tensors named `backbone.…` must be exactly
    those of the architecture that the run's configuration names.

    Raises:
        WeightsError: unreadable, no configuration, an architecture that can't be rebuilt, tensors missing or left over.
    """
    checkpoint = _read(path)
    state = checkpoint.get("state_dict")
    if not isinstance(state, dict):
        raise WeightsError(
            f"{path} is no checkpoint of solo-learn or of the built-in host",
            expected="a Lightning checkpoint with a `state_dict`",
            got=f"keys {sorted(map(str, checkpoint))[:5]}",
            fix="name a .ckpt file of a run; bare weights in safetensors: "
            "`rela-zoo publish --timm ARCHITECTURE --weights FILE`",
        )
    tensors = {str(name)[len(_PREFIX) :]: value for name, value in state.items() if str(name).startswith(_PREFIX)}
    config = _config(path, checkpoint)
    network, fields = _architecture(path, config, builtin=_BUILTIN in checkpoint)
    _match(path, network, tensors)
    wide = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    network.load_state_dict(wide, strict=True)
    host = "the built-in host" if _BUILTIN in checkpoint else "solo-learn"
    epochs = checkpoint.get("epoch")
    after = f", {epochs + 1} epoch{'s' if epochs else ''}" if isinstance(epochs, int) else ""
    made_by = f"backbone trained with {config.get('method', 'an unknown method')} by {host}{after}"
    training = _training(host, config, checkpoint)
    return Backbone(network, fields, _preprocessing(config), made_by, training, _mirrored(config))


def _training(host: str, config: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the training, for whoever meets the weights later."""
    rela, epochs = config.get("rela"), checkpoint.get("epoch")
    rela = rela if isinstance(rela, dict) else {"data_ratio": 1.0}
    found = {
        "host": host,
        "method": config.get("method"),
        "prior": rela.get("prior"),
        "data_ratio": rela.get("data_ratio"),
        "epochs": epochs + 1 if isinstance(epochs, int) else None,
        "steps": checkpoint.get("global_step"),
    }
    return {key: value for key, value in found.items() if value is not None or key == "prior"}


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(
            f"there is no checkpoint at {path}", expected="a .ckpt file", fix="correct the path"
        ) from None
    except Exception as error:
        raise WeightsError(
            f"the checkpoint {path} can't be read",
            expected="tensors and plain values only: objects in a pickle can run any code, and are never loaded",
            got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            fix="save the backbone's state_dict as safetensors where you trust the file; "
            "`rela-zoo publish --timm ARCHITECTURE --weights FILE` takes it",
        ) from None
    if not isinstance(found, dict):
        raise WeightsError(f"{path} holds no checkpoint", expected="a mapping", got=type(found).__name__)
    return found


def _config(path: Path, checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of the run: inside a checkpoint of the built-in host, beside one of solo-learn."""
    inside = checkpoint.get(_BUILTIN)
    if isinstance(inside, dict) and isinstance(inside.get("config"), dict):
        return inside["config"]
    for name in _CONFIGS:
        beside = path.parent / name
        if beside.is_file() and beside.stat().st_size <= _MAX_CONFIG_BYTES:
            try:
                found = json.loads(beside.read_bytes())
            except (ValueError, RecursionError) as error:
                raise WeightsError(f"{beside} is damaged", expected="JSON", got=error) from error
            if isinstance(found, dict):
                return found
    raise WeightsError(
        f"nothing says which network {path} holds",
        expected=f"{' or '.join(_CONFIGS)} beside it, as the run wrote it",
        got="neither",
        fix="put that file there, or write an entry of your own and give it as --entry",
    )


def _architecture(path: Path, config: Mapping[str, Any], builtin: bool) -> tuple[nn.Module, dict[str, Any]]:
    """The network as its host builds it, and the same in the terms of an entry."""
    section, data = config.get("backbone"), config.get("data")
    name = section.get("name") if isinstance(section, dict) else None
    kwargs = section.get("kwargs") or {} if isinstance(section, dict) else {}
    dataset = data.get("dataset") if isinstance(data, dict) else None
    if not isinstance(name, str) or not isinstance(kwargs, dict) or not isinstance(dataset, str):
        raise WeightsError(
            f"the configuration of {path} names no network", expected="`backbone.name` and `data.dataset`",
            got=sorted(map(str, config))[:8],
        )  # fmt: skip
    # solo-learn has networks of its own for these; only the timm ones are known to compute the same here.
    own = not builtin and (name.startswith(("poolformer", "wide_resnet")) or config.get("method") == "mae")
    if own:
        raise WeightsError(
            f"{path} holds a network that only solo-learn can build",
            expected="a ResNet, ViT, Swin or ConvNeXt (a ViT of `mae` is another network)",
            got=f"{name}, method {config.get('method')}",
            fix="publish its embeddings with --module MODULE:CALLABLE, which returns the network",
        )
    resnet = name in RESNETS
    stem = (section.get("stem") if isinstance(section, dict) else None) or stem_of(dataset)
    if resnet:
        kwargs = {key: value for key, value in kwargs.items() if key != "zero_init_residual"}  # initial values only
    try:
        if resnet and kwargs:
            raise ValueError(f"arguments {sorted(kwargs)} of a ResNet")
        network, _ = build_backbone(name, kwargs, dataset, stem)
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise WeightsError(
            f"the network of {path} can't be rebuilt",
            expected=f"an architecture and arguments that timm {_timm_version()} takes",
            got=f"{name} with {kwargs}: {error}",
        ) from error
    fields: dict[str, Any] = {"architecture": timm_name(name), "model_args": kwargs}
    if resnet and stem == "cifar":
        fields |= {"stem": "cifar", "stem_padding": 2}
    return network.eval(), fields


def _timm_version() -> str:
    import timm

    return str(timm.__version__)


def _match(path: Path, network: nn.Module, tensors: Mapping[str, Any]) -> None:
    wanted = network.state_dict()
    strange = sorted(name for name, value in tensors.items() if not isinstance(value, Tensor))
    missing, extra = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    shapes = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in sorted(wanted.keys() & tensors.keys())
        if isinstance(tensors[name], Tensor) and tensors[name].shape != wanted[name].shape
    ]
    found = [
        f"{len(names)} {what}: {', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
        for what, names in (
            ("missing", missing),
            ("left over", extra),
            ("of another shape", shapes),
            ("no tensors", strange),
        )
        if names
    ]
    infinite = [name for name, value in tensors.items() if not found and not bool(torch.isfinite(value).all())]
    if infinite:
        found = [f"values that are not finite: {', '.join(infinite[:3])}"]
    if found:
        raise WeightsError(
            f"the backbone in {path} is not the network that its configuration names",
            expected=f"exactly the {len(wanted)} tensors of it, named `{_PREFIX}…`",
            got="; ".join(found),
            fix="check that checkpoint and configuration are of the same run",
        )


def _views(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    views = config.get("augmentations")
    return [one for one in views if isinstance(one, dict)] if isinstance(views, list) else []


def _mirrored(config: Mapping[str, Any]) -> float:
    """The least of the views' probabilities: where one is not mirrored, the image may be one that must not be."""
    flips = [one.get("horizontal_flip") for one in _views(config)]
    return min((float(one.get("prob", 0.0)) if isinstance(one, dict) else 0.0 for one in flips), default=0.0)


def _preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    """Crop size and normalisation of the training: a whole image at the size of the large crops."""
    views = _views(config)
    sizes = [one["crop_size"] for one in views if isinstance(one.get("crop_size"), int)]
    dataset = config["data"]["dataset"]
    first = views[0] if views else {}
    mean, std = NORMALISATION.get(dataset, (first.get("mean", IMAGENET[0]), first.get("std", IMAGENET[1])))
    found: dict[str, Any] = {"interpolation": "bicubic", "mean": list(mean), "std": list(std)}
    return {**found, "input_size": max(sizes), "resize": max(sizes)} if sizes else found
