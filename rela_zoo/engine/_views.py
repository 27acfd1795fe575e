"""The views of the accelerated stage, by `rela.augmentations`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rela_zoo.data.views import RELA_VIEW, build_views, find_normalisation
from rela_zoo.errors import ConfigError, Problem


@dataclass(frozen=True)
class ViewShape:
    """How large the method's views are, in pixels, and how many of a sample the accelerated stage sees.

    Examples:
        >>> from rela_zoo import ViewShape
        >>> ViewShape(crop_size=32, count=2)
        ViewShape(crop_size=32, count=2)
    """

    crop_size: int
    count: int


def accelerated_views(augmentations: str | Sequence[Mapping[str, Any]], own: Any, shape: ViewShape) -> Any | None:
    """A transform of an RGB image to `shape.count` views; None for the method's own.

    Args:
        augmentations: `rela`, `method`, or a list of views.
        own: the method's own transform, which tells mean and deviation of the pixels.
        shape: size and number of the views.

    Raises:
        ConfigError: no normalisation can be found in `own`, or another number of views is listed.
    """
    if augmentations == "method":
        return None
    found = find_normalisation(own)
    if found is None:
        fix = "set rela.augmentations=method to keep the method's own views in both stages"
        raise ConfigError([Problem("augmentations", "views that end in Normalize", type(own).__name__, fix)])
    if isinstance(augmentations, str):
        return build_views([{**RELA_VIEW, "crop_size": shape.crop_size, "num_crops": shape.count}], *found)
    views = build_views(augmentations, *found)
    if (count := sum(times for _, times in views.views)) != shape.count:
        fix = f"give views whose num_crops sum to {shape.count}"
        raise ConfigError([Problem("rela.augmentations", f"{shape.count} views", f"{count}", fix)])
    return views
