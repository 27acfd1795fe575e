"""Random views of a whole batch on its device, every image with chance of its own.

The same description of views as in `rela_zoo.data.views`, the same filters and the same distribution; only Pillow's
rounding to whole steps of 1/255 after each change is left out (on a CPU, large images are rounded once, when cut out).
Which views an image gets depends on (seed, epoch, index) alone, not on the batch it is in.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rela_zoo._io.device import to_device
from rela_zoo.data import colour
from rela_zoo.data._chance import uniforms

View = Mapping[str, Any]
_ASPECT = (math.log(3 / 4), math.log(4 / 3))
_ATTEMPTS = 10
_SIGMA = (0.1, 2.0)
_ORDERS = np.array(list(itertools.permutations(range(4))))
_JITTER = ("brightness", "contrast", "saturation", "hue")
_STILL = [[1.0], [1.0], [1.0], [0.0]]  # the factors that change nothing
_PARTS = ("color_jitter", "grayscale", "gaussian_blur", "solarization", "equalization", "horizontal_flip")
# Which of an image's numbers decides what; a place is never given to anything else, or all views would change.
_AREA, _SHAPE, _TOP, _LEFT, _FACTORS, _ORDER, _BLUR = (0, 10, 20, 21, 22, 26, 27)
_CHANCE = {part: 28 + i for i, part in enumerate(_PARTS)}
_NUMBERS = 28 + len(_PARTS)
# Up to so many pixels the matrices of all images are cheaper on a CPU than a call for each image.
_SMALL = 64 * 64


class BatchViews:
    """uint8 images → normalised views, as many as the description says.

    Args:
        augmentations: entries of a configuration's `augmentations`, as for `rela_zoo.data.views.build_views`.
        mean, std: of the channels, for pixels in [0, 1].
        seed: of all that is drawn here.

    Examples:
        >>> from rela_zoo.data.views import RELA_VIEW
        >>> views = BatchViews([{**RELA_VIEW, "crop_size": 16, "num_crops": 2}], (0.5,) * 3, (0.25,) * 3, seed=0)
        >>> first, second = views(torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.arange(4), epoch=0)
        >>> first.shape
        torch.Size([4, 3, 16, 16])
    """

    def __init__(self, augmentations: Sequence[View], mean: Sequence[float], std: Sequence[float], seed: int) -> None:
        self._views = [view for view in augmentations for _ in range(int(view.get("num_crops", 1)))]
        self._seed = seed
        self._mean, self._std = (torch.tensor(list(values)).view(1, 3, 1, 1) for values in (mean, std))
        # Views of one size are made together: fewer and larger steps.
        self._by_size: dict[int, list[int]] = defaultdict(list)
        for number, view in enumerate(self._views):
            self._by_size[int(view["crop_size"])].append(number)

    @property
    def values(self) -> int:
        """Values of all views of an image."""
        return sum(3 * size**2 * len(numbers) for size, numbers in self._by_size.items())

    @torch.no_grad()
    def __call__(self, pixels: Tensor | Sequence[Tensor], indices: Tensor, epoch: int) -> list[Tensor]:
        """Make the views of a batch.

        Args:
            pixels: (B, 3, H, W) uint8, or B images (3, h, w) of several sizes on one device.
            indices: (B,) int64 on the CPU, of the samples.
            epoch: ≥ 0.

        Returns:
            A (B, 3, crop_size, crop_size) float32, channels last, for each view, on the device of `pixels`.
        """
        # Not in half precision, for a pixel has 256 steps.
        with torch.autocast(pixels[0].device.type, enabled=False):
            return self._made(pixels, indices, epoch)

    def _made(self, pixels: Tensor | Sequence[Tensor], indices: Tensor, epoch: int) -> list[Tensor]:
        views: list[Tensor] = [torch.empty(0)] * len(self._views)
        if isinstance(pixels, Tensor):
            sizes = np.tile(pixels.shape[-2:], (len(pixels), 1))
        else:
            sizes = np.array([image.shape[-2:] for image in pixels])
        cut_out = _cutter(pixels)
        for size, numbers in self._by_size.items():
            parts = [_drawn(self._views[v], (self._seed, epoch, v), indices.numpy(), sizes) for v in numbers]
            chosen = {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}
            out = self._coloured(cut_out(chosen["windows"], size, chosen["flip"]), chosen)
            for number, view in zip(numbers, out.split(len(pixels)), strict=True):
                views[number] = view
        return views

    def _coloured(self, out: Tensor, chosen: Mapping[str, np.ndarray]) -> Tensor:
        device = out.device
        one_by_one = device.type == "cpu" and out[0, 0].numel() > _SMALL
        if (chosen["factors"] != _STILL).any():
            order, factors = chosen["order"], np.take_along_axis(chosen["factors"], chosen["order"], 0)
            if one_by_one:
                out = colour.jitter_each(out, order, factors)
            else:
                turned = [_rows((order[step] == colour.HUE) & (factors[step] != 0), device) for step in range(4)]
                out = colour.jitter(out, _sent(order, device), _sent(factors, device), turned)
        if chosen["grayscale"].any():
            out = torch.where(_sent(chosen["grayscale"], device).view(-1, 1, 1, 1), colour.grey(out), out)
        if (rows := _rows(chosen["gaussian_blur"], device)) is not None:
            sigma = _sent(chosen["sigma"][chosen["gaussian_blur"]], device)
            # One by one where an image then stays in the processor's cache.
            step = 1 if one_by_one else len(rows)
            for some, its in zip(rows.split(step), sigma.split(step), strict=True):
                out.index_copy_(0, some, colour.gaussian_blur(out[some], its))
        if chosen["solarization"].any():
            out = torch.where(_sent(chosen["solarization"], device).view(-1, 1, 1, 1), colour.solarise(out), out)
        if (rows := _rows(chosen["equalization"], device)) is not None:
            out.index_copy_(0, rows, colour.equalise(out[rows]))
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return ((out - self._mean) / self._std).contiguous(memory_format=torch.channels_last)


def _cutter(pixels: Tensor | Sequence[Tensor]) -> Callable[[np.ndarray, int, np.ndarray], Tensor]:
    """How boxes are cut out of these images, of each as often as there are views: of all at once, or one by one."""
    if isinstance(pixels, Tensor) and (pixels.device.type != "cpu" or pixels[0, 0].numel() <= _SMALL):
        images, device = pixels.float().div_(255), pixels.device
        return lambda windows, size, flip: resample(images, _sent(windows, device), size, _sent(flip, device))

    def one_by_one(windows: np.ndarray, size: int, flip: np.ndarray) -> Tensor:
        rounds = range(0, len(flip), len(pixels))
        views = [(windows[:, at : at + len(pixels)], flip[at : at + len(pixels)]) for at in rounds]
        return torch.cat([resample_each(pixels, boxes, size, mirrored) for boxes, mirrored in views])

    return one_by_one


def _sent(values: np.ndarray, device: torch.device) -> Tensor:
    """An array on a device, in float32 if it was in float64."""
    found = torch.from_numpy(np.ascontiguousarray(values, np.float32 if values.dtype == np.float64 else None))
    return to_device(found, device)


def _rows(mask: np.ndarray, device: torch.device) -> Tensor | None:
    """Where a mask (B,) is true, on a device; None if nowhere. Found on the host, which need not wait for a GPU."""
    rows = np.flatnonzero(mask)
    return _sent(rows, device) if len(rows) else None


def _drawn(view: View, key: tuple[int, ...], indices: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
    """What happens to each image of a batch in one view; the last axis is that of the images."""
    numbers = uniforms(key, indices, _NUMBERS)
    happens = {part: numbers[_CHANCE[part]] < float((view.get(part) or {}).get("prob", 0.0)) for part in _PARTS}
    factors = np.array(_STILL) + np.zeros(len(indices))
    if happens["color_jitter"].any():
        for change, name in enumerate(_JITTER):
            low, high = _range(view["color_jitter"][name], name)
            factor = low + (high - low) * numbers[_FACTORS + change]
            factors[change] = np.where(happens["color_jitter"], factor, _STILL[change])
    crop, size, (heights, widths) = view.get("rrc") or {"enabled": False}, int(view["crop_size"]), sizes.T
    if crop["enabled"]:
        boxes = random_boxes(
            numbers[[*range(_LEFT + 1)]], crop["crop_min_scale"], crop["crop_max_scale"], heights, widths
        )
        windows = np.stack([*boxes, *np.full((2, len(indices)), size), *np.zeros((2, len(indices)))])
    else:
        windows = centre_windows(heights, widths, size)
    return {
        "windows": windows,
        "flip": happens["horizontal_flip"],
        "factors": factors,
        "order": _ORDERS[(numbers[_ORDER] * len(_ORDERS)).astype(np.int64)].T,
        "sigma": numbers[_BLUR] * (_SIGMA[1] - _SIGMA[0]) + _SIGMA[0],
        **{part: happens[part] for part in _PARTS[1:-1]},
    }


def _range(strength: float | Sequence[float], change: str) -> tuple[float, float]:
    """Of the factors of a change, by torchvision's meaning of its strength: a number, or the range itself."""
    if not isinstance(strength, int | float):
        low, high = strength
        return float(low), float(high)
    return (-strength, strength) if change == "hue" else (max(0.0, 1.0 - strength), 1.0 + strength)


def random_boxes(draws: np.ndarray, low: float, high: float, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Boxes as torchvision's RandomResizedCrop draws them: the first of ten attempts that fits, else a central one.

    Args:
        draws: (22, B) uniform on [0, 1): ten of the area, ten of the aspect ratio, of top and of left.
        low, high: fractions of the area.
        heights, widths: (B,) of the images in pixels.

    Returns:
        (4, B), whole numbers: top, left, height, width in pixels.
    """
    area = (low + (high - low) * draws[_AREA : _AREA + _ATTEMPTS]) * (heights * widths)
    aspect = np.exp(_ASPECT[0] + (_ASPECT[1] - _ASPECT[0]) * draws[_SHAPE : _SHAPE + _ATTEMPTS])
    w, h = np.sqrt(area * aspect).round(), np.sqrt(area / aspect).round()
    fits = (w > 0) & (w <= widths) & (h > 0) & (h <= heights)
    first, found = fits.argmax(0)[None], fits.any(0)
    h, w = np.take_along_axis(h, first, 0)[0], np.take_along_axis(w, first, 0)[0]
    # An image longer than any allowed box is cut to the nearest allowed shape.
    narrow, wide = math.exp(_ASPECT[0]), math.exp(_ASPECT[1])
    h = np.where(found, h, np.minimum(heights, (widths / narrow).round()))
    w = np.where(found, w, np.minimum(widths, (heights * wide).round()))
    top = np.where(found, np.floor(draws[_TOP] * (heights - h + 1)), (heights - h) // 2)
    left = np.where(found, np.floor(draws[_LEFT] * (widths - w + 1)), (widths - w) // 2)
    return np.stack([top, left, h, w])


def centre_windows(heights: np.ndarray, widths: np.ndarray, size: int) -> np.ndarray:
    """Windows for `resample` that resize the shorter side to `size` and cut out the centre, as torchvision does."""
    short = np.minimum(heights, widths)
    totals = [np.where(side == short, size, size * side // short) for side in (heights, widths)]
    offsets = [np.rint((total - size) / 2.0) for total in totals]
    return np.stack([np.zeros(len(short)), np.zeros(len(short)), heights, widths, *totals, *offsets])


def resample(images: Tensor, windows: Tensor, size: int, flip: Tensor) -> Tensor:
    """Cut a box out of each image and resize it as Pillow's bicubic filter does, which smooths what it shrinks.

    Each axis is a product with a matrix of filter weights: small matrices for small images, and exact for all.

    Args:
        images: (B, C, H, W) float in [0, 1].
        windows: (8, N) float, N a multiple of B for several views of each image, one view of all of them after the
            other: top, left, height, width of the box in pixels; height and width it is resized to; and of the result
            the first row and column to be kept.
        size: of the square that is kept.
        flip: (N,) bool, which images are mirrored.

    Returns:
        (N, C, size, size) float in [0, 1].
    """
    top, left, height, width, rows, columns, down, right = windows
    axes = ((left, top), (width, height), (columns, rows), (right, down))
    tall, wide = images.shape[-2:]
    if tall == wide:  # in half as many steps, each of which a GPU is told of
        start, length, total, offset = map(torch.cat, axes)
        across, along = _weights(start, length, total, offset, size, wide).chunk(2)
    else:
        across = _weights(left, width, columns, right, size, wide)
        along = _weights(top, height, rows, down, size, tall)
    across = torch.where(flip.view(-1, 1, 1), across.flip(1), across)
    cut = []
    for over, under in zip(across.split(len(images)), along.split(len(images)), strict=True):
        # Pillow, too, goes first along the rows, and cuts off what the filter overshoots.
        narrowed = torch.matmul(images, over.transpose(1, 2).unsqueeze(1)).clamp_(0, 1)
        cut.append(torch.matmul(under.unsqueeze(1), narrowed).clamp_(0, 1))
    return cut[0] if len(cut) == 1 else torch.cat(cut)


def resample_each(images: Tensor | Sequence[Tensor], windows: np.ndarray, size: int, flip: np.ndarray) -> Tensor:
    """As `resample`, image by image: for images of several sizes, and for large ones, of which only the box is read.

    Args:
        images: B of (3, h, w) uint8, on one device.
        windows: (8, B), as for `resample`.
        size: as for `resample`.
        flip: (B,) bool.

    Returns:
        (B, 3, size, size) float in [0, 1]; on a CPU whole steps of 1/255, as Pillow gives them.
    """
    cut = []
    for image, window, mirrored in zip(images, windows.T, flip, strict=True):
        top, left, height, width, *rest = (int(value) for value in window)
        box = image[None, :, top : top + height, left : left + width]
        on_cpu = image.device.type == "cpu"
        if rest != [size, size, 0, 0] or (on_cpu and image.shape[-2] * image.shape[-1] <= _SMALL):
            # Only the middle of it is kept, and of a long strip the whole would be enlarged beyond all bounds; or the
            # image is small, and would be cut out like this if the whole batch were of its size.
            where = torch.from_numpy(window).float().view(8, 1).to(image.device)
            out = resample(image[None].float() / 255, where, size, torch.zeros(1, dtype=torch.bool).to(image.device))
        elif on_cpu:
            out = _resized(box, (size, size)).float().div_(255)
        else:
            narrowed = _resized(box.float(), (height, size)).clamp_(0, 255)
            out = _resized(narrowed, (size, size)).div_(255).clamp_(0, 1)
        cut.append(out.flip(-1) if mirrored else out)
    return torch.cat(cut)


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.nn.functional.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)


def _weights(start: Tensor, length: Tensor, total: Tensor, offset: Tensor, size: int, extent: int) -> Tensor:
    """(B, size, extent): what each pixel counts in each pixel of the result, along one axis."""
    start, length, total, offset = (value.view(-1, 1, 1) for value in (start, length, total, offset))
    device = start.device
    scale = length / total
    centre = (torch.arange(size, device=device).view(1, -1, 1) + offset + 0.5) * scale
    position = torch.arange(extent, device=device).view(1, 1, -1) - start
    x = ((position + 0.5 - centre) / scale.clamp(min=1.0)).abs()
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    weights = torch.where(x < 1.0, near, torch.where(x < 2.0, far, 0.0))
    weights = torch.where((position >= 0) & (position < length), weights, 0.0)
    return weights / weights.sum(-1, keepdim=True)
