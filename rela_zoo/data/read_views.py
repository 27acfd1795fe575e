"""Reads off a transform what its random views are, in the words of a configuration's `augmentations`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torchvision import transforms

from rela_zoo.data.views import Described, MultiViews

# Modules whose multi-view pipelines are read, by the names of their classes.
_SOLO = "solo.data.pretrain_dataloader"
_STILL = {"brightness": [1.0, 1.0], "contrast": [1.0, 1.0], "saturation": [1.0, 1.0], "hue": [0.0, 0.0]}
# In the order in which they happen; a transform that has them in another one makes other views.
_ORDER = ("color_jitter", "grayscale", "gaussian_blur", "solarization", "equalization", "horizontal_flip")


class UnreadableViewsError(Exception):
    """A transform makes views that `BatchViews` can't; the message says what of it."""


def read_views(transform: Any) -> Described:
    """What a transform of an image to a list of views is made of, for whoever makes the same views otherwise.

    Reads `MultiViews` of this package, and solo-learn's pipelines of torchvision's transforms.

    Returns:
        Entries of `augmentations`, mean and standard deviation of the channels.

    Raises:
        UnreadableViewsError: something in it is not known, or comes in an order in which it isn't made here.
    """
    if isinstance(transform, MultiViews) and transform.described is not None:
        return transform.described
    entries, statistics = [], []
    for one, times in _pipelines(transform):
        entry, found = _read(one)
        entries.append({**entry, "num_crops": times})
        statistics.append(found)
    if any(found != statistics[0] for found in statistics):
        raise UnreadableViewsError("views that are normalised differently")
    return entries, *statistics[0]


def _pipelines(transform: Any) -> Iterator[tuple[Any, int]]:
    """Of each kind of view: its transform, and how many of them there are."""
    if not _is(transform, "FullTransformPipeline"):
        raise UnreadableViewsError(type(transform).__name__)
    for part in transform.transforms:
        if not _is(part, "NCropAugmentation"):
            raise UnreadableViewsError(type(part).__name__)
        yield part.transform, int(part.num_crops)


def _is(one: Any, name: str) -> bool:
    return type(one).__module__ == _SOLO and type(one).__name__ == name


def _read(transform: Any) -> tuple[dict[str, Any], tuple[list[float], list[float]]]:
    """An entry of `augmentations`, and mean and deviation."""
    if type(transform) is not transforms.Compose or len(transform.transforms) < 3:
        raise UnreadableViewsError(type(transform).__name__)
    first, *middle, to_tensor, normalise = transform.transforms
    if type(to_tensor) is not transforms.ToTensor or type(normalise) is not transforms.Normalize:
        raise UnreadableViewsError(f"{type(to_tensor).__name__} and {type(normalise).__name__} at its end")
    entry = _crop(first)
    last = -1
    for step in middle:
        key, values = _step(step)
        if (place := _ORDER.index(key)) <= last:
            raise UnreadableViewsError(f"{type(step).__name__} after what it comes before here")
        last, entry[key] = place, values
    return entry, ([float(x) for x in normalise.mean], [float(x) for x in normalise.std])


def _crop(step: Any) -> dict[str, Any]:
    # solo-learn's Resize alone, without RandomResizedCrop, cuts nothing off: of an oblong image comes an oblong view.
    if type(step) is not transforms.RandomResizedCrop:
        raise UnreadableViewsError(f"{type(step).__name__} instead of RandomResizedCrop")
    bicubic = step.interpolation == transforms.InterpolationMode.BICUBIC
    if len(set(step.size)) > 1 or tuple(step.ratio) != (3.0 / 4.0, 4.0 / 3.0) or not bicubic:
        raise UnreadableViewsError("a RandomResizedCrop of another shape or interpolation")
    low, high = step.scale
    rrc = {"enabled": True, "crop_min_scale": float(low), "crop_max_scale": float(high)}
    return {"crop_size": int(step.size[0]), "rrc": rrc}


def _step(step: Any) -> tuple[str, dict[str, Any]]:
    """One of `_ORDER`, and its values."""
    if type(step) is transforms.RandomGrayscale:
        return "grayscale", {"prob": float(step.p)}
    if type(step) is transforms.RandomHorizontalFlip:
        return "horizontal_flip", {"prob": float(step.p)}
    if type(step) is transforms.RandomApply and len(step.transforms) == 1:
        (inner,), chance = step.transforms, {"prob": float(step.p)}
        if type(inner) is transforms.ColorJitter:
            return "color_jitter", {**chance, **_strengths(inner)}
        if _is(inner, "GaussianBlur") and list(inner.sigma) == [0.1, 2.0]:
            return "gaussian_blur", chance
        for name, key in (("Solarization", "solarization"), ("Equalization", "equalization")):
            if _is(inner, name):
                return key, chance
        raise UnreadableViewsError(f"{type(inner).__name__} in RandomApply")
    raise UnreadableViewsError(type(step).__name__)


def _strengths(jitter: Any) -> Mapping[str, list[float]]:
    """As ranges; torchvision keeps None for a change that does nothing."""
    given = {key: getattr(jitter, key) for key in _STILL}
    return {key: _STILL[key] if value is None else [float(x) for x in value] for key, value in given.items()}
