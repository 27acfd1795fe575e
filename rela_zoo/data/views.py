"""Random views of an image, described as in solo-learn's configurations.

Shared by the accelerated stage, whose milder views are described here too, and by the built-in host.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import functional

Transform = Callable[[Image.Image], Any]
Described = tuple[Sequence[Mapping[str, Any]], Sequence[float], Sequence[float]]

# The accelerated stage's views (ReLA's reference code); the crop size is filled in from the method's own views.
RELA_VIEW: dict[str, Any] = {
    "rrc": {"enabled": True, "crop_min_scale": 0.5, "crop_max_scale": 1.0},
    "color_jitter": {"prob": 0.8, "brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2},
    "grayscale": {"prob": 0.2},
    "gaussian_blur": {"prob": 0.0},
    "solarization": {"prob": 0.0},
    "equalization": {"prob": 0.0},
    "horizontal_flip": {"prob": 0.5},
}


# An image whose resized form has more pixels than this is enlarged only where it is kept: 128 MB in Pillow.
MAX_RESIZED_PIXELS = 1 << 25


class ResizeAndCrop:
    """Resizes the shorter side of a PIL image, and crops the centre: torchvision's Resize, then its CenterCrop.

    A long strip, 60,000 × 1 pixels, would take 14 GB between the two; of such an image only the part that the crop
    keeps is enlarged.

    Args:
        resize: of the shorter side, in pixels.
        crop: both sides of the result.
        interpolation: torchvision's; antialiased as always in Pillow.
    """

    def __init__(self, resize: int, crop: int, interpolation: transforms.InterpolationMode) -> None:
        self.resize, self.crop, self.interpolation = resize, crop, interpolation

    def __call__(self, image: Image.Image) -> Image.Image:
        """Any image → one of (crop, crop)."""
        return functional.center_crop(self._resized(image), [self.crop, self.crop])

    def _resized(self, image: Image.Image) -> Image.Image:
        """The whole resized image, or so much of its middle that the crop can't tell the difference."""
        short, long = sorted(image.size)
        length = int(self.resize * long / short)  # as torchvision rounds
        scale = length / long
        # As far as the crop, and as the widest filter reaches beyond it.
        left = round((length - self.crop) / 2) - math.ceil(4 * max(scale, 1))
        if length * self.resize <= MAX_RESIZED_PIXELS or left <= 0:
            return functional.resize(image, [self.resize], self.interpolation, antialias=True)
        right = left + self.crop + 2 * math.ceil(4 * max(scale, 1))
        along = (left / scale, right / scale)
        wide = image.width > image.height
        box = (along[0], 0, along[1], short) if wide else (0, along[0], short, along[1])
        size = (right - left, self.resize) if wide else (self.resize, right - left)
        return image.resize(size, Image.Resampling[self.interpolation.name], box=box)


def validation_transform(crop_size: int, mean: Sequence[float], std: Sequence[float]) -> Transform:
    """Resize and centre crop to the size that the network sees in training, and normalise.

    Above 64 pixels the shorter side is resized to 256/224 of the crop, as is usual; small images are used whole.

    Args:
        crop_size: in pixels.
        mean: of the channels, for pixels in [0, 1].
        std: of the channels.

    Returns:
        A transform of an RGB image to a float tensor (3, crop_size, crop_size).
    """
    resize = crop_size if crop_size <= 64 else round(crop_size * 256 / 224)
    return transforms.Compose(
        [
            ResizeAndCrop(resize, crop_size, transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )


class RandomPart:
    """A random part of a PIL image, and its mirror image now and then: half of its area or more, 3:4 to 4:3.

    What follows resizes it, so that any evaluation's transform becomes one for training.

    Args:
        mirrored: how often, a probability.
    """

    def __init__(self, mirrored: float) -> None:
        self.mirrored = mirrored

    def __call__(self, image: Image.Image) -> Image.Image:
        """Any image → a part of it."""
        top, left, height, width = transforms.RandomResizedCrop.get_params(image, [0.5, 1.0], [3 / 4, 4 / 3])
        part = functional.crop(image, top, left, height, width)
        return functional.hflip(part) if float(torch.rand(1)) < self.mirrored else part


class _Blur:
    """Gaussian blur with a radius drawn from [0.1, 2], in pixels; torch's generator is the only source of chance."""

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(radius=float(torch.empty(1).uniform_(0.1, 2.0))))


class MultiViews:
    """Several transforms of one image, as a list.

    Args:
        views: (transform, times) pairs, applied in order.
        described: what the transforms were made from, for whoever makes the same views otherwise: the entries of
            `augmentations`, mean and standard deviation of the channels.
    """

    def __init__(self, views: Sequence[tuple[Transform, int]], described: Described | None = None) -> None:
        self.views, self.described = list(views), described

    def __call__(self, image: Image.Image) -> list[Any]:
        """An RGB image → as many views as all the times together."""
        return [transform(image) for transform, times in self.views for _ in range(times)]


def _probability(view: Mapping[str, Any], key: str) -> float:
    return float((view.get(key) or {}).get("prob", 0.0))


def build_view(view: Mapping[str, Any], mean: Sequence[float], std: Sequence[float]) -> Transform:
    """Turn one entry of a configuration's `augmentations` into a transform.

    Args:
        view: `crop_size` in pixels, `rrc`, `color_jitter`, `grayscale`, `gaussian_blur`, `solarization`,
            `equalization`, `horizontal_flip`; probabilities in [0, 1]; what is left out does not happen.
        mean: of the channels, for pixels in [0, 1].
        std: of the channels.

    Returns:
        A transform of an RGB image to a float tensor (3, crop_size, crop_size), normalised.
    """
    bicubic = transforms.InterpolationMode.BICUBIC
    size, crop = view["crop_size"], view.get("rrc") or {"enabled": False}
    steps: list[Any]
    if crop["enabled"]:
        scale = (crop["crop_min_scale"], crop["crop_max_scale"])
        steps = [transforms.RandomResizedCrop(size, scale=scale, interpolation=bicubic)]
    else:
        steps = [ResizeAndCrop(size, size, bicubic)]
    if probability := _probability(view, "color_jitter"):
        jitter = view["color_jitter"]
        strengths = [jitter[key] for key in ("brightness", "contrast", "saturation", "hue")]
        steps.append(transforms.RandomApply([transforms.ColorJitter(*strengths)], p=probability))
    if probability := _probability(view, "grayscale"):
        steps.append(transforms.RandomGrayscale(p=probability))
    for key, operation in (
        ("gaussian_blur", _Blur()),
        ("solarization", transforms.Lambda(ImageOps.solarize)),
        ("equalization", transforms.Lambda(ImageOps.equalize)),
    ):
        if probability := _probability(view, key):
            steps.append(transforms.RandomApply([operation], p=probability))
    if probability := _probability(view, "horizontal_flip"):
        steps.append(transforms.RandomHorizontalFlip(p=probability))
    return transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(mean=mean, std=std)])


def build_views(augmentations: Sequence[Mapping[str, Any]], mean: Sequence[float], std: Sequence[float]) -> MultiViews:
    """Turn a configuration's whole `augmentations` list into one transform; each entry has `num_crops`.

    Examples:
        >>> from PIL import Image
        >>> from rela_zoo import build_views
        >>> crop = {"enabled": True, "crop_min_scale": 0.2, "crop_max_scale": 1.0}
        >>> view = {"rrc": crop, "crop_size": 24, "num_crops": 2}
        >>> views = build_views([view], mean=[0.5] * 3, std=[0.25] * 3)
        >>> [tuple(one.shape) for one in views(Image.open("photos/cat/000.png"))]
        [(3, 24, 24), (3, 24, 24)]
    """
    views = [(build_view(view, mean, std), int(view.get("num_crops", 1))) for view in augmentations]
    return MultiViews(views, (augmentations, mean, std))


def find_normalisation(transform: Any) -> tuple[list[float], list[float]] | None:
    """Mean and standard deviation of the first Normalize inside a transform, however deep; None without one.

    Looks through Compose, RandomApply and any object that keeps its parts in `transform`, `transforms` or `views`,
    as solo-learn's multi-crop pipelines do.
    """
    if isinstance(transform, list | tuple):
        return next((found for part in transform if (found := find_normalisation(part))), None)
    if type(transform).__name__ == "Normalize":
        return [float(x) for x in transform.mean], [float(x) for x in transform.std]
    for attribute in ("transforms", "transform", "views"):
        parts = getattr(transform, attribute, None)
        if parts is not None and not isinstance(parts, Tensor) and (found := find_normalisation(parts)):
            return found
    return None
