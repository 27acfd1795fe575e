"""The configuration of a training run, with the keys, defaults and derived values of solo-learn's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rela_zoo.data.statistics import IMAGENET, NORMALISATION

# Section → its keys with defaults. `...` marks what a configuration has to say itself.
SECTIONS: dict[str, dict[str, Any]] = {
    "backbone": {"name": ..., "kwargs": {}},
    "data": {
        "dataset": ...,
        "train_path": ...,
        "val_path": None,
        "format": "image_folder",
        "num_workers": 0,
        "no_labels": False,
        "fraction": -1,
        "num_classes": None,
        "num_large_crops": None,
        "num_small_crops": None,
    },
    "optimizer": {
        "name": ...,
        "batch_size": ...,
        "lr": ...,
        "classifier_lr": 0.1,
        "weight_decay": 0.0,
        "kwargs": {},
        "exclude_bias_n_norm_wd": False,
    },
    "scheduler": {
        "name": "warmup_cosine",
        "warmup_epochs": 10,
        "warmup_start_lr": 3e-5,
        "min_lr": 0.0,
        "lr_decay_steps": None,
        "interval": "step",
    },
    "momentum": {"base_tau": 0.99, "final_tau": 1.0, "classifier": False},
    "knn_eval": {"enabled": False, "k": 20, "distance_func": "euclidean"},
    "performance": {"disable_channel_last": False},
    "checkpoint": {"enabled": False, "dir": "trained_models", "frequency": 1, "keep_prev": False},
    "auto_resume": {"enabled": False, "max_hours": 36},
    "method_kwargs": {},
}
TOP_LEVEL: dict[str, Any] = {
    "name": "run",
    "method": ...,
    "augmentations": ...,
    "max_epochs": ...,
    "devices": "1",
    "num_nodes": 1,
    "accelerator": "auto",
    "strategy": "auto",
    "precision": 32,
    "sync_batchnorm": False,
    "accumulate_grad_batches": 1,
    "seed": 5,
    "resume_from_checkpoint": None,
    "debug_augmentations": False,
}
# Sections of solo-learn's that mean nothing here and are left alone.
IGNORED = ("wandb", "dali", "auto_umap", "hydra")
# What may differ between a run and its resumption: these keys don't change the numbers.
_NOT_DECISIVE = (
    "checkpoint",
    "auto_resume",
    "resume_from_checkpoint",
    "debug_augmentations",
    "enable_progress_bar",
    "log_every_n_steps",
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
    for key, default in TOP_LEVEL.items():
        if default is not ...:
            whole.setdefault(key, default)
    for section, keys in SECTIONS.items():
        values = whole.get(section)
        if values is None:
            values = {}
        if isinstance(values, Mapping):
            defaults = {key: default for key, default in keys.items() if default is not ...}
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


def run_identity(cfg: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration decides which network is trained, and how; plain values, defaults filled in."""
    whole = as_plain(fill_defaults(cfg))
    kept = {key: value for key, value in whole.items() if key not in _NOT_DECISIVE}
    kept["data"] = {key: value for key, value in kept["data"].items() if key != "num_workers"}
    return json.loads(json.dumps(kept, sort_keys=True, default=str))


def run_digest(cfg: DictConfig | Mapping[str, Any]) -> str:
    """12 hex digits that two runs share exactly if `run_identity` gives the same for both."""
    text = json.dumps(run_identity(cfg), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
