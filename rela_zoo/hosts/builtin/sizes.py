"""The size of the images where the configuration leaves it to the data, and the stem that fits it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rela_zoo.errors import Problem, RelaZooError
from rela_zoo.networks.names import RESNETS, stem_of

if TYPE_CHECKING:
    from rela_zoo.data import ImageSource

AUTO, HALF = "auto", "half"
# Images looked at, evenly spaced over the data.
_LOOKED_AT = 32
_SMALLEST, _LARGEST, _STEP = 32, 224, 32
# Up to here a stem that divides the side by four leaves the last stage too little to see.
_SMALL = 64


def leaves_size_open(cfg: Mapping[str, Any]) -> bool:
    """Whether a view of a configuration has a size that is still to be found."""
    return any(view.get("crop_size") in (AUTO, HALF) for view in _views(cfg))


def typical_size(source: ImageSource) -> tuple[int, int]:
    """Width and height of the middle one, by its shorter side, of up to 32 images spread over the data."""
    from rela_zoo.data import UndecodableImageError

    count, sizes = len(source), []
    for index in sorted({round(i * (count - 1) / max(1, _LOOKED_AT - 1)) for i in range(_LOOKED_AT)}):
        try:
            sizes.append(source.image(index).size)
        except UndecodableImageError:
            continue
    if not sizes:
        return _LARGEST, _LARGEST
    middle = statistics.median_low(min(one) for one in sizes)
    return next(one for one in sizes if min(one) == middle)


def suitable_size(width: int, height: int) -> int:
    """Side of the large crops for images of this size: their shorter side, a multiple of 32 between 32 and 224.

    Examples:
        >>> suitable_size(640, 480), suitable_size(100, 96), suitable_size(28, 28)
        (224, 96, 32)
    """
    return min(_LARGEST, max(_SMALLEST, min(width, height) // _STEP * _STEP))


def half_size(size: int) -> int:
    """Side of the small crops beside large ones of `size`: half of it, a multiple of 16.

    Examples:
        >>> half_size(224), half_size(96), half_size(32)
        (112, 48, 16)
    """
    return max(16, size // 2 // 16 * 16)


def size_for(cfg: Mapping[str, Any]) -> tuple[int | None, str]:
    """The size of the large crops by `image_size`, or by the data that a whole configuration names.

    Returns:
        The size, or None and why it can't be told.
    """
    from rela_zoo.data.datasets import DataProblem, open_dataset

    if isinstance(size := cfg.get("image_size"), int):
        return size, ""
    try:
        return suitable_size(*typical_size(open_dataset(cfg["data"], "train").source)), ""
    except DataProblem as error:
        return None, f"{error.problem.key} is {error.problem.got}"
    except (KeyError, TypeError, RelaZooError) as error:
        return None, str(error)


def with_size(cfg: Mapping[str, Any], size: int) -> dict[str, Any]:
    """A configuration with every size in place, and the stem of a ResNet that fits it; plain data.

    Args:
        cfg: plain; one that neither leaves a size open nor has an `image_size` comes back as it is.
        size: of the large crops, in pixels.
    """
    whole = dict(cfg)
    if not leaves_size_open(cfg) and cfg.get("image_size", AUTO) == AUTO:
        return whole
    sides: dict[Any, Any] = {AUTO: size, HALF: half_size(size)}
    whole["augmentations"] = [
        {**view, "crop_size": sides.get(view.get("crop_size"), view.get("crop_size"))} for view in _views(cfg)
    ]
    backbone, data = cfg.get("backbone"), cfg.get("data")
    if isinstance(backbone, Mapping) and backbone.get("name") in RESNETS and backbone.get("stem") is None:
        dataset = data.get("dataset") if isinstance(data, Mapping) else None
        stem = "cifar" if size <= _SMALL else stem_of(dataset)
        whole["backbone"] = {**backbone, "stem": stem}
    return whole


def contradictions(cfg: Mapping[str, Any]) -> list[Problem]:
    """`image_size` beside views that all name sizes of their own, which then says nothing."""
    size, views = cfg.get("image_size", AUTO), _views(cfg)
    if size == AUTO or not views or leaves_size_open(cfg) or views[0].get("crop_size") == size:
        return []
    got = f"{size}, and views of {views[0].get('crop_size')} px"
    fix = "leave one of them out; a view with crop_size: auto goes by image_size"
    return [Problem("image_size", "the crop_size of the large views, or auto", got, fix)]


def describe(cfg: Mapping[str, Any], whole: Mapping[str, Any], typical: tuple[int, int]) -> str:
    """What is trained on, for the user: size of the images, of the views, and the stem.

    Args:
        cfg: as the user wrote it.
        whole: with sizes in place.
        typical: width and height of the training images, from `typical_size`.
    """
    width, height = typical
    size = _views(whole)[0]["crop_size"]
    open_ = leaves_size_open(cfg)
    why = "from the data; image_size=… sets it" if open_ and cfg.get("image_size", AUTO) == AUTO else "as configured"
    backbone = whole["backbone"]
    text = f"images: {width}×{height}, trained on at {size} px ({why})"
    if backbone["name"] in RESNETS:
        stem = backbone.get("stem") or stem_of(whole["data"]["dataset"])
        kind = "3×3 stem without pooling" if stem == "cifar" else "7×7 stem with pooling"
        text += f"; {backbone['name']} with a {kind} (backbone.stem={stem})"
    return text


def _views(cfg: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    views = cfg.get("augmentations")
    return [one for one in views if isinstance(one, Mapping)] if isinstance(views, list) else []
