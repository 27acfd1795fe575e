"""What a prior's transform allows: how much of it a device may do instead of the workers."""

from __future__ import annotations

from typing import Any

_SIDE = 224  # of a prior that does not say its own


def input_side(transform: Any) -> int:
    """Side of a prior's images, in pixels."""
    return int(getattr(getattr(transform, "preprocessing", None), "input_size", _SIDE))


def can_be_split(transform: Any) -> bool:
    """Whether a transform is `pixels`, to uint8, and then `normalise`, of whole batches on any device."""
    return hasattr(transform, "pixels") and hasattr(transform, "normalise")


def can_resize_whole(transform: Any) -> bool:
    """Whether a transform may leave the resizing to the device, too, as `leaves_whole` and `resized`."""
    return can_be_split(transform) and hasattr(transform, "leaves_whole") and hasattr(transform, "resized")
