"""What timm says of a network: how images are prepared, which licence, how many features, which map before pooling."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, get_args

from rela_zoo.errors import RegistryError
from rela_zoo.registry._spec import Dense, Licence, Preprocessing

# Arguments that say what the file's classifier or input is, which is not asked of the features.
_IGNORED_ARGS = ("num_classes", "pretrained")


def timm_preprocessing(config: Mapping[str, Any], where: str) -> Preprocessing:
    """How timm prepares images for a network.

    Args:
        config: timm's `pretrained_cfg`, as a mapping.
        where: whose it is, for the error.

    Raises:
        RegistryError: images that are not square and in colour, or a preparation that is not done here.
    """
    channels, height, width = (int(one) for one in config.get("input_size", (3, 224, 224)))
    mode: Any
    interpolation: Any
    mode, interpolation = config.get("crop_mode") or "center", config.get("interpolation") or "bicubic"
    known = mode in ("center", "squash") and interpolation in ("bilinear", "bicubic", "nearest", "lanczos")
    if channels != 3 or height != width or not known:
        raise RegistryError(
            f"images can't be prepared here as timm does it for {where}",
            expected="square images in colour, crop_mode center or squash",
            got=f"input_size {channels}×{height}×{width}, crop_mode {mode}, interpolation {interpolation}",
            fix="write an entry of your own with the preprocessing that you want",
        )
    return Preprocessing(
        input_size=height,
        resize=math.floor(height / float(config.get("crop_pct") or 0.875)),
        interpolation=interpolation,
        mean=tuple(config.get("mean") or (0.485, 0.456, 0.406)),
        std=tuple(config.get("std") or (0.229, 0.224, 0.225)),
        crop_mode=mode,
    )


def licence_of(stated: str | None) -> Licence:
    """A licence by the name that timm or a card gives it; `other` for one without a name of its own here."""
    if stated in (None, "", "unknown"):
        return "unstated"
    return next((one for one in get_args(Licence) if one == str(stated).lower()), "other")


def arxiv_of(papers: Any) -> tuple[str, ...]:
    """`arXiv:2412.07679v2` → `2412.07679`; whatever else is named is left out."""
    listed = [papers] if isinstance(papers, str) else papers or ()
    return tuple(dict.fromkeys(one for text in listed for one in re.findall(r"\d{4}\.\d{4,5}", str(text))))


def plain_arguments(given: Mapping[str, Any], where: str) -> dict[str, bool | int | float | str]:
    """Arguments of timm's constructor as an entry holds them.

    Raises:
        RegistryError: one that an entry can't hold.
    """
    found: dict[str, bool | int | float | str] = {}
    for key, value in given.items():
        if value is None or key in _IGNORED_ARGS:
            continue
        if key == "img_size" and isinstance(value, list | tuple) and len(set(value)) == 1:
            value = value[0]
        if not isinstance(value, bool | int | float | str):
            raise RegistryError(
                f"{where} has an argument that can't be written into an entry", expected="numbers, words, true, false",
                got=f"{key}={value!r}"[:200], fix="use a repository that is built without it",
            )  # fmt: skip
        found[key] = value
    return found


def shapes(architecture: str, arguments: Mapping[str, Any], input_size: int) -> tuple[int, Dense | None]:
    """Features an image, and the map before pooling if timm tells it; the network is built without weights.

    Raises:
        RegistryError: timm can't build it, or it does not take such images.
    """
    return _shapes(architecture, json.dumps(dict(arguments), sort_keys=True), input_size)


@lru_cache(maxsize=64)
def _shapes(architecture: str, arguments: str, input_size: int) -> tuple[int, Dense | None]:
    import timm
    import torch

    try:
        with torch.device("meta"), torch.no_grad():
            network = timm.create_model(architecture, pretrained=False, num_classes=0, **json.loads(arguments)).eval()
            image = torch.zeros(1, 3, input_size, input_size)
            dim = int(network(image).shape[1])
    except Exception as error:  # of the constructor of any architecture
        raise RegistryError(
            f"timm can't build {architecture} for images of {input_size}×{input_size}",
            expected="an architecture of the installed timm", got=" ".join(str(error).split())[:300],
            fix="update timm, or correct the arguments",
        ) from error  # fmt: skip
    try:
        with torch.device("meta"), torch.no_grad():
            maps = network.forward_intermediates(image, indices=1, output_fmt="NCHW", intermediates_only=True)
    except Exception:  # not every network of timm has it, nor in this layout
        return dim, None
    _, channels, rows, columns = maps[-1].shape
    return dim, Dense(grid=rows, dim=channels) if rows == columns and rows > 1 else None
