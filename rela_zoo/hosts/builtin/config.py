"""The configuration of a training run, with the keys, defaults and derived values of solo-learn's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rela_zoo.data.statistics import IMAGENET, NORMALISATION
from rela_zoo.hosts.builtin.schema import IGNORED, section_defaults, top_level_defaults
from rela_zoo.networks.names import stem_of

# What may differ between a run and its resumption: these keys don't change the numbers.
_NOT_DECISIVE = (
    "checkpoint",
    "auto_resume",
    "resume_from_checkpoint",
    "debug_augmentations",
    # The views say it.
    "image_size",
    "enable_progress_bar",
    "log_every_n_steps",
    "logs",
    "wandb",
    "trackio",
    *IGNORED,
)


def as_plain(value: Any) -> Any:
    """A configuration node as dicts, lists and scalars; a plain value as it is."""
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def fill_defaults(cfg: DictConfig | Mapping[str, Any]) -> DictConfig:
    """A copy with every missing key that has a default set to it; changes nothing that is set.

    The string "None" becomes null, as in solo-learn.
    """
    given = as_plain(cfg)

    def mend(value: Any) -> Any:
        return None if value == "None" else value

    whole: dict[str, Any] = {key: mend(value) for key, value in given.items()}
    for key, default in top_level_defaults().items():
        whole.setdefault(key, default)
    for section, defaults in section_defaults().items():
        values = whole.get(section)
        if values is None:
            values = {}
        if isinstance(values, Mapping):
            whole[section] = {**defaults, **{key: mend(value) for key, value in values.items()}}
            if whole[section].get("kwargs", ...) is None:
                whole[section]["kwargs"] = {}
    return OmegaConf.create(whole)


def count_devices(devices: Any, accelerator: str) -> int:
    """How many processes train on this machine.

    Args:
        devices: a number, a list of ids, or a string: ids separated by commas, or a number.
        accelerator: `cpu` decides that a string is a number of processes, as Lightning has it.

    Raises:
        ValueError: if it is none of these, or not positive.
    """
    if isinstance(devices, bool):
        raise ValueError("true and false count nothing")
    if isinstance(devices, str):
        text = devices.strip()
        if "," in text and accelerator != "cpu":
            count = len([part for part in text.split(",") if part.strip()])
        else:
            count = int(text)
    elif isinstance(devices, int):
        count = devices
    elif isinstance(devices, Sequence):
        count = len(devices)
    else:
        raise ValueError("neither a number, nor a list of ids, nor a string")
    if count == -1 and accelerator in ("gpu", "cuda", "auto"):
        import torch

        count = max(torch.cuda.device_count(), 1)
    if count < 1:
        raise ValueError("at least one device is needed")
    return count


def count_crops(augmentations: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Numbers of large and small crops: those of the first view's `crop_size`, and all others."""
    first = augmentations[0]["crop_size"]
    large = sum(int(view["num_crops"]) for view in augmentations if view["crop_size"] == first)
    return large, sum(int(view["num_crops"]) for view in augmentations) - large


def normalisation(cfg: DictConfig) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the channels: the data set's; for custom data the first view's, or ImageNet's."""
    if cfg.data.dataset in NORMALISATION:
        mean, std = NORMALISATION[cfg.data.dataset]
    else:
        view = as_plain(cfg.augmentations)[0]
        mean, std = view.get("mean", IMAGENET[0]), view.get("std", IMAGENET[1])
    return list(mean), list(std)


def resolve_config(cfg: DictConfig | Mapping[str, Any], num_classes: int) -> DictConfig:
    """The configuration as the methods read it: defaults, derived values, and rates scaled to the batch.

    As in solo-learn, `optimizer.lr` is per 256 samples of a step over all devices, and so is `classifier_lr` if there
    is a validation set. To be called once on what the user wrote.

    Args:
        cfg: a checked configuration.
        num_classes: of the training set; 1 without labels.
    """
    whole = fill_defaults(cfg)
    whole.data.num_classes = num_classes
    whole.data.num_large_crops, whole.data.num_small_crops = count_crops(as_plain(whole.augmentations))
    processes = count_devices(as_plain(whole.devices), whole.accelerator) * whole.num_nodes
    scale = whole.optimizer.batch_size * processes / 256
    whole.optimizer.lr *= scale
    if whole.data.val_path is not None:
        whole.optimizer.classifier_lr *= scale
    kwargs = as_plain(whole.optimizer.kwargs)
    if whole.optimizer.name in ("sgd", "lars"):
        kwargs = {"momentum": 0.9, **kwargs}
    whole.optimizer.kwargs = kwargs
    return whole


# Keys of `rela` that there were not always, with what was so before: a run that still does so keeps its name.
_BEFORE: dict[str, Any] = {
    "power": 1.0,
    "components": None,
    "rewarm": False,
    "mix": 0.0,
    "views_on": "workers",
    "cache": "none",
}


def run_identity(cfg: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration decides which network is trained, and how; plain values, defaults filled in."""
    whole = as_plain(fill_defaults(cfg))
    kept = {key: value for key, value in whole.items() if key not in _NOT_DECISIVE}
    # The views of a device are others; runs with those of the workers are named as they were before there was a choice.
    leave = {"num_workers", "cache"} | ({"views_on"} if kept["data"]["views_on"] == "workers" else set())
    backbone = kept.get("backbone")
    if isinstance(backbone, dict) and backbone.get("stem") in (None, stem_of(kept["data"].get("dataset"))):
        kept["backbone"] = {key: value for key, value in backbone.items() if key != "stem"}
    leave |= {"on_error"} if kept["data"]["on_error"] == "raise" else set()
    kept["data"] = {key: value for key, value in kept["data"].items() if key not in leave}
    if isinstance(kept.get("rela"), dict):
        kept["rela"] = {key: x for key, x in kept["rela"].items() if key not in _BEFORE or x != _BEFORE[key]}
    return json.loads(json.dumps(kept, sort_keys=True, default=str))


def run_digest(cfg: DictConfig | Mapping[str, Any]) -> str:
    """12 hex digits that two runs share exactly if `run_identity` gives the same for both."""
    text = json.dumps(run_identity(cfg), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
