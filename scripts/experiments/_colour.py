"""Colour changes of a batch in which every image has its own parameters.

Images are (B, 3, H, W) float in [0, 1], parameters (B,) float. Each function equals its namesake of
torchvision.transforms.v2.functional, applied image by image; those take one parameter for a whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

_GREY = (0.2989, 0.587, 0.114)


def _each(parameter: Tensor) -> Tensor:
    return parameter.view(-1, 1, 1, 1)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(other.expand_as(images), images, _each(factor)).clamp_(0, 1)


def grey(images: Tensor) -> Tensor:
    """Luminance (B, 1, H, W)."""
    red, green, blue = images.unbind(1)
    return (_GREY[0] * red + _GREY[1] * green + _GREY[2] * blue).unsqueeze(1)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply by `factor` ≥ 0 and clip."""
    return (images * _each(factor)).clamp_(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Away from (factor > 1) or towards (< 1) the image's mean luminance."""
    return _blend(images, grey(images).mean((1, 2, 3), keepdim=True), factor)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Away from (factor > 1) or towards (< 1) the image's own grey."""
    return _blend(images, grey(images), factor)


def adjust_hue(images: Tensor, factor: Tensor) -> Tensor:
    """Turn the hue by `factor` in [-0.5, 0.5] of a circle."""
    red, green, blue = images.unbind(1)
    largest, smallest = images.amax(1), images.amin(1)
    chroma = largest - smallest
    safe = torch.where(chroma == 0, 1.0, chroma)
    hue = torch.where(
        largest == red,
        (green - blue) / safe,
        torch.where(largest == green, 2.0 + (blue - red) / safe, 4.0 + (red - green) / safe),
    )
    hue = hue + 6.0 * factor.view(-1, 1, 1)
    # Back by channel = value − chroma·clip(min(k, 4 − k), 0, 1), k = (n + hue) mod 6 with n = 5, 3, 1 for R, G, B.
    k = torch.remainder(torch.stack([hue + 5.0, hue + 3.0, hue + 1.0], dim=1), 6.0)
    return largest.unsqueeze(1) - chroma.unsqueeze(1) * torch.minimum(k, 4.0 - k).clamp_(0, 1)


def solarise(images: Tensor, threshold: float = 128 / 255) -> Tensor:
    """Invert what is at least `threshold`."""
    return torch.where(images >= threshold, 1.0 - images, images)


def gaussian_blur(images: Tensor, sigma: Tensor, size: int = 13) -> Tensor:
    """Blur by `sigma` > 0 pixels with a kernel of `size` (odd) taps, mirrored at the borders."""
    half = size // 2
    taps = torch.arange(-half, half + 1, device=images.device, dtype=images.dtype)
    kernel = torch.softmax(-0.5 * (taps / sigma.view(-1, 1)) ** 2, dim=1)
    height, width = images.shape[-2:]
    padded = torch.nn.functional.pad(images, (half, half, half, half), mode="reflect")
    # A sum of shifted copies: grouped convolutions with one kernel an image are slower everywhere.
    rows = sum(_each(kernel[:, i]) * padded[:, :, i : i + height] for i in range(size))
    return sum(_each(kernel[:, i]) * rows[..., i : i + width] for i in range(size))
