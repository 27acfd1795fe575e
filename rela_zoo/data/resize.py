"""Pillow's resize of 8-bit images, to the bit, as matrix products on any device.

Pillow goes along one axis, then along the other. Each pass is a sum of whole numbers: 8-bit pixels by filter weights
that are rounded to multiples of 2⁻²², rounded again to 8 bits. float32 holds neither the weights nor such sums, so each
weight is split in two halves of 11 bits, whose sums are exact, and the sums are joined as integers. Where a GPU may
shorten float32 to TF32, the sums are taken in float64.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rela_zoo._io.device import to_device

Filter = Literal["bilinear", "bicubic"]
# Larger images are resized where they are decoded: handed over whole they would take too much memory.
MOST_PIXELS = 1 << 19
_BITS = 22  # of a weight, as in Pillow
_HALF = 11
# Up to so many pixels under the filter the sums of the lower halves, 255 · 2¹⁰ each at most, are exact in float32.
_MOST_TAPS = 64
_REACH: dict[str, float] = {"bilinear": 1.0, "bicubic": 2.0}
_KEPT = 256  # matrices on the device; of 500 → 224 pixels one takes 0.9 MB


class Window(NamedTuple):
    """Along one axis: `length` pixels are resized to `total`, of which `size` from `start` on are kept."""

    length: int
    total: int
    start: int
    size: int


def can_resize(filter: str, *axes: Window) -> bool:
    """Whether `resize` gives Pillow's pixels along these axes."""
    if filter not in _REACH:
        return False
    return all(
        axis.start >= 0
        and axis.start + axis.size <= axis.total
        and 2 * math.ceil(_REACH[filter] * max(axis.length / axis.total, 1.0)) + 1 <= _MOST_TAPS
        for axis in axes
    )


def resize(images: Tensor, rows: Window, columns: Window, filter: Filter) -> Tensor:
    """Resize a batch and cut a part out of the result.

    Args:
        images: (B, H, W, 3) uint8.
        rows: `length` is H.
        columns: `length` is W.
        filter: Pillow's, antialiased.

    Returns:
        (B, 3, rows.size, columns.size) uint8, the pixels of `PIL.Image.resize((columns.total, rows.total), filter)`.

    Examples:
        >>> import numpy as np
        >>> from PIL import Image
        >>> picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
        >>> ours = resize(torch.from_numpy(picture)[None], Window(5, 3, 0, 3), Window(7, 4, 0, 4), "bicubic")
        >>> theirs = np.asarray(Image.fromarray(picture).resize((4, 3), Image.Resampling.BICUBIC))
        >>> bool((ours[0].permute(1, 2, 0).numpy() == theirs).all())
        True
    """
    with torch.autocast(images.device.type, enabled=False):
        pixels = images.permute(0, 3, 1, 2).to(_exact_in(images.device))
        if _downwards_first(rows, columns):
            pixels = _across(_down(pixels, rows, filter), columns, filter)
        else:
            pixels = _down(_across(pixels, columns, filter), rows, filter)
        return pixels.to(torch.uint8)


def _exact_in(device: torch.device) -> torch.dtype:
    if device.type != "cuda":
        return torch.float32
    try:
        shortened = torch.backends.cuda.matmul.allow_tf32
    except RuntimeError:  # set by the newer of two ways, which the older one doesn't know
        shortened = True
    return torch.float64 if shortened else torch.float32


def _across(pixels: Tensor, columns: Window, filter: Filter) -> Tensor:
    halves = _matrix(columns, filter, pixels.device).to(pixels.dtype)
    return _joined(*torch.matmul(pixels, halves.T).split(columns.size, -1))


def _down(pixels: Tensor, rows: Window, filter: Filter) -> Tensor:
    halves = _matrix(rows, filter, pixels.device).to(pixels.dtype)
    return _joined(*torch.matmul(halves, pixels).split(rows.size, -2))


def _downwards_first(rows: Window, columns: Window) -> bool:
    """Which axis this Pillow begins with: in version 13 the one that loses many more pixels, before always the rows."""
    less = rows.length - rows.total
    return less > 0 and less > 2 * (columns.length - columns.total) and _pillow_chooses()


@lru_cache(maxsize=1)
def _pillow_chooses() -> bool:
    """Whether the Pillow that is installed begins with the columns of a tall image. Asked of its pixels."""
    picture = np.random.default_rng(0).integers(0, 256, (60, 9, 3), dtype=np.uint8)
    theirs = np.asarray(Image.fromarray(picture).resize((8, 20), Image.Resampling.BICUBIC))
    pixels, rows, columns = torch.from_numpy(picture).permute(2, 0, 1).float(), (60, 20, 0, 20), (9, 8, 0, 8)
    ours = _across(_down(pixels, Window(*rows), "bicubic"), Window(*columns), "bicubic")
    return bool((ours.permute(1, 2, 0).numpy() == theirs).all())


def _joined(upper: Tensor, lower: Tensor) -> Tensor:
    """The sums of both halves → pixels, whole numbers in their dtype."""
    total = (upper.to(torch.int32) << _HALF) + lower.to(torch.int32)
    return ((total + (1 << (_BITS - 1))) >> _BITS).clamp_(0, 255).to(upper.dtype)


@lru_cache(maxsize=_KEPT)
def _matrix(axis: Window, filter: Filter, device: torch.device) -> Tensor:
    """(2 · size, length) float32: the upper halves of the weights, then the lower ones."""
    first, weights = filter_weights(axis.length, axis.total, filter)
    kept = slice(axis.start, axis.start + axis.size)
    first, weights = first[kept], weights[kept]
    upper = (weights + (1 << (_HALF - 1))) >> _HALF
    dense = np.zeros((2, axis.size, axis.length + weights.shape[1]), np.float32)
    at, places = np.arange(axis.size)[:, None], first[:, None] + np.arange(weights.shape[1])
    dense[0, at, places], dense[1, at, places] = upper, weights - (upper << _HALF)
    found = torch.from_numpy(dense[:, :, : axis.length].reshape(2 * axis.size, axis.length))
    with torch.inference_mode(False):  # or they would be of no use outside of it
        return to_device(found, device)


def filter_weights(length: int, total: int, filter: Filter) -> tuple[np.ndarray, np.ndarray]:
    """What each pixel counts, as Pillow works it out in double precision.

    Args:
        length: pixels before.
        total: pixels after.
        filter: Pillow's.

    Returns:
        The first pixel that counts, (total,) int64, and what it and those after it count, (total, taps) int64, in
        units of 2⁻²²; zero beyond the filter and beyond the image.
    """
    scale = length / total
    stretch = max(scale, 1.0)
    reach = _REACH[filter] * stretch
    centre = (np.arange(total) + 0.5) * scale
    # As C casts to int: towards zero.
    first = np.maximum(np.trunc(centre - reach + 0.5).astype(np.int64), 0)
    last = np.minimum(np.trunc(centre + reach + 0.5).astype(np.int64), length)
    taps = np.arange(math.ceil(reach) * 2 + 1)
    inside = taps < (last - first)[:, None]
    weights = np.where(inside, _shape(filter, (taps + first[:, None] - centre[:, None] + 0.5) * (1.0 / stretch)), 0.0)
    # One after the other, as Pillow adds them: another order may round otherwise.
    whole = np.zeros(total)
    for tap in weights.T:
        whole = whole + tap
    weights = np.divide(weights, whole[:, None], where=whole[:, None] != 0, out=weights)
    return first, np.trunc(weights * (1 << _BITS) + np.where(weights < 0, -0.5, 0.5)).astype(np.int64)


def _shape(filter: Filter, x: np.ndarray) -> np.ndarray:
    """The filter at a distance, in Pillow's order of operations."""
    x = np.abs(x)
    if filter == "bilinear":
        return np.where(x < 1.0, 1.0 - x, 0.0)
    a = -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
