"""`config.json` of a timm prior, as timm writes it: plain timm loads the published weights with their preprocessing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rela_zoo._io.safetensors_header import read_header
from rela_zoo.registry import PriorSpec

TIMM_CONFIG = "config.json"


def timm_config(spec: PriorSpec, weights: Path) -> bytes | None:
    """The file's bytes; None for a network that timm does not build just so.

    Args:
        spec: the entry.
        weights: what is published with it; says whether there is a classifier, and of how many classes.
    """
    preprocessing = spec.preprocessing
    if spec.family != "timm" or spec.stem != "imagenet" or spec.layer != "pooled" or preprocessing is None:
        return None
    from timm.models import get_pretrained_cfg, is_model

    if not is_model(spec.architecture):
        return None
    known = get_pretrained_cfg(spec.architecture, allow_unregistered=True)
    defaults: dict[str, Any] = known.to_dict() if known is not None else {}
    tensors = read_header(weights).tensors
    head = defaults.get("classifier")
    shape = tensors.get(f"{head}.weight", {}).get("shape") if isinstance(head, str) else None
    classes = int(shape[0]) if shape else 0
    config: dict[str, Any] = {
        "architecture": spec.architecture,
        "num_classes": classes,
        "num_features": spec.dim,
        "pretrained_cfg": {
            "tag": spec.id,
            "custom_load": False,
            "input_size": [3, preprocessing.input_size, preprocessing.input_size],
            "interpolation": preprocessing.interpolation,
            "crop_pct": preprocessing.input_size / preprocessing.resize,
            "crop_mode": preprocessing.crop_mode,
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "num_classes": classes,
            **{name: defaults[name] for name in ("pool_size", "first_conv", "classifier") if name in defaults},
        },
    }
    if spec.model_args:
        config["model_args"] = dict(spec.model_args)
    return (json.dumps(config, indent=2) + "\n").encode()
