"""Views in samples and batches that are dictionaries, as stable-pretraining's transforms make them.

Several views lie in a list under `views` (or in a dictionary there), or under names of their own; one alone is the
sample itself. Each view is a dictionary with its image, label, `sample_idx` and so on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from rela_zoo.data import as_rgb
from rela_zoo.errors import ConfigError, Problem

# Where stable-pretraining's and torchvision's transforms keep what they are made of.
_PARTS = ("args", "t", "transforms", "transform", "lambd")


def large_views(sample: Mapping[str, Any], image: str) -> dict[str | int, Mapping[str, Any]]:
    """The views of a sample or batch with the largest images, by name or position: all but the local crops.

    Args:
        sample: as a transform makes it, or many of them collated.
        image: the key of the image in a view.
    """
    if image in sample:
        return {0: sample}
    inner = sample.get("views", sample)
    named = inner.items() if isinstance(inner, Mapping) else enumerate(inner)
    views = {name: view for name, view in named if isinstance(view, Mapping) and image in view}
    widest = max((view[image].shape[-1] for view in views.values()), default=0)
    return {name: view for name, view in views.items() if view[image].shape[-1] == widest}


@dataclass(frozen=True)
class Layout:
    """How the large views of a sample lie in it.

    Attributes:
        names: of the views, or their positions in a list.
        under_views: whether they lie under the key `views`.
        alone: whether the one view is the sample itself.
        size: of their images, in pixels.
    """

    names: tuple[str | int, ...]
    under_views: bool
    alone: bool
    size: int

    @classmethod
    def of(cls, sample: Mapping[str, Any], image: str) -> Layout:
        """Read it off a sample that the own transform has made.

        Raises:
            ConfigError: no images are found, or they are no tensors.
        """
        views = large_views(sample, image) if all(map(_is_tensor, _images(sample, image))) else {}
        if not views:
            keys = ", ".join(map(str, sample))
            fix = f"let the data set's transform put tensors under {image!r} (ToImage), or name the key: image=…"
            raise ConfigError([Problem("data", f"samples with views under {image!r}, as tensors", keys, fix)])
        size = next(iter(views.values()))[image].shape[-1]
        return cls(tuple(views), "views" in sample, image in sample, int(size))

    def assemble(self, views: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A sample of these views, one for each name."""
        if self.alone:
            return views[0]
        in_list = all(isinstance(name, int) for name in self.names)
        made: Any = list(views) if in_list else dict(zip(self.names, views, strict=True))
        return {"views": made} if self.under_views else made


class AcceleratedTransform:
    """A sample → its milder views, laid out as the own transform lays out its own.

    Args:
        views: an image → its views, a list of tensors.
        layout: of the sample.
        image: key of the image.
        mode: of the image that `views` takes, as Pillow calls it.
    """

    def __init__(self, views: Any, layout: Layout, image: str, mode: str) -> None:
        self._views, self._layout, self._image, self._mode = views, layout, image, mode

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        picture = to_picture(sample[self._image])
        views = self._views(as_rgb(picture) if self._mode == "RGB" else picture.convert(self._mode))
        return self._layout.assemble([{**sample, self._image: view} for view in views])


def to_picture(value: Any) -> Image.Image:
    """A PIL image, or uint8 pixels (H, W), (H, W, C) or (C, H, W), as a PIL image."""
    if isinstance(value, Image.Image):
        return value
    pixels = np.asarray(value)
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3) and pixels.shape[2] not in (1, 3):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    return Image.fromarray(pixels)


def find_normalize(transform: Any) -> Any | None:
    """The first Normalize inside a transform, however deep; None without one."""
    if type(transform).__name__ == "Normalize":
        return transform
    if isinstance(transform, Mapping):
        parts = list(transform.values())
    elif isinstance(transform, list | tuple):
        parts = list(transform)
    else:
        parts = [part for key in _PARTS if (part := getattr(transform, key, None)) is not None]
    return next((found for part in parts if (found := find_normalize(part)) is not None), None)


def _images(sample: Mapping[str, Any], image: str) -> Iterator[Any]:
    inner = sample.get("views", sample)
    views = [sample] if image in sample else inner.values() if isinstance(inner, Mapping) else inner
    return (view[image] for view in views if isinstance(view, Mapping) and image in view)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)
