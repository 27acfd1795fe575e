"""Colour changes of a batch in which every image has its own parameters.

Images are (B, 3, H, W) float in [0, 1], parameters (B,) float on the same device. Each function equals its namesake of
torchvision.transforms.v2.functional, or of Pillow, applied image by image; those take one parameter for a whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_GREY = (0.2989, 0.587, 0.114)
# What a jitter may do to an image, in the numbering of `jitter`.
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def _each(parameter: Tensor) -> Tensor:
    return parameter.view(-1, 1, 1, 1)


def grey(images: Tensor) -> Tensor:
    """Luminance (B, 1, H, W)."""
    red, green, blue = images.unbind(1)
    return (_GREY[0] * red + _GREY[1] * green + _GREY[2] * blue).unsqueeze(1)


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


def jitter(images: Tensor, changes: Tensor, factors: Tensor, turned: Sequence[Tensor | None]) -> Tensor:
    """Several colour changes one after another, in an order of each image's own.

    Args:
        images: (B, 3, H, W).
        changes: (steps, B) integers, which change each image undergoes in each step: `BRIGHTNESS`, ….
        factors: (steps, B), of those changes, as in torchvision's `adjust_brightness`, …; 1 leaves the image as it is,
            for a hue 0.
        turned: for each step the images (b,) whose hue is turned, or None for none. Given apart, because turning all of
            them would cost more than all the rest, and reading `changes` back would make the host wait.
    """
    for change, factor, rows in zip(changes, factors, turned, strict=True):
        # Brightness, contrast and saturation move an image away from black, its mean grey and its own grey.
        own = grey(images)
        other = own * _each(change == SATURATION) + own.mean((1, 2, 3), keepdim=True) * _each(change == CONTRAST)
        weight = _each(torch.where(change == HUE, 1.0, factor))
        images = torch.lerp(other.expand_as(images), images, weight).clamp_(0, 1)
        if rows is not None:
            images.index_copy_(0, rows, adjust_hue(images[rows], factor[rows]))
    return images


def jitter_each(images: Tensor, changes: np.ndarray, factors: np.ndarray) -> Tensor:
    """As `jitter`, image by image and in place: for large images on a CPU, where an image stays in the cache.

    Args:
        images: (B, 3, H, W).
        changes, factors: (steps, B), as for `jitter`.

    Returns:
        `images`.
    """
    for image, its_changes, its_factors in zip(images, changes.T.tolist(), factors.T.tolist(), strict=True):
        for change, factor in zip(its_changes, its_factors, strict=True):
            if factor == (0.0 if change == HUE else 1.0):
                continue
            if change == HUE:
                image.copy_(adjust_hue(image[None], torch.tensor([factor]))[0])
                continue
            if change == CONTRAST:
                mean = float(grey(image[None]).mean())
                image.mul_(factor).add_((1.0 - factor) * mean)
            elif change == SATURATION:
                own = grey(image[None])[0]
                image.mul_(factor).add_(own, alpha=1.0 - factor)
            else:
                image.mul_(factor)
            image.clamp_(0, 1)
    return images


def solarise(images: Tensor, threshold: float = 127.5 / 255) -> Tensor:
    """Invert what is at least `threshold`; by default what rounds to 128 of 255."""
    return torch.where(images >= threshold, 1.0 - images, images)


def equalise(images: Tensor) -> Tensor:
    """Spread the histogram of each channel over all of its 256 steps."""
    from torchvision.transforms.v2 import functional

    return functional.equalize((images * 255).round_().to(torch.uint8)).to(images.dtype) / 255


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur by `sigma` in (0, 2] pixels, with Pillow's kernel; beyond the border the last pixel goes on.

    Pillow takes three box filters for a Gaussian, which matters for small `sigma`: a Gaussian of a third of a pixel,
    read off at whole pixels, would do next to nothing.

    Source: Gwosdek et al. 2011 (SSVM), equations 7, 11 and 14.
    """
    kernel = _blur_kernel(sigma)
    size, half = kernel.shape[1], kernel.shape[1] // 2
    height, width = images.shape[-2:]
    padded = torch.nn.functional.pad(images, (half, half, half, half), mode="replicate")
    # A sum of shifted copies: grouped convolutions with one kernel an image are slower everywhere.
    rows = _each(kernel[:, 0]) * padded[:, :, :height]
    for i in range(1, size):
        rows.addcmul_(_each(kernel[:, i]), padded[:, :, i : i + height])
    out = _each(kernel[:, 0]) * rows[..., :width]
    for i in range(1, size):
        out.addcmul_(_each(kernel[:, i]), rows[..., i : i + width])
    return out


def _blur_kernel(sigma: Tensor) -> Tensor:
    """(B,) → (B, 13): three boxes of a width that need not be whole, one after another."""
    variance = sigma.square() / 3
    whole = ((torch.sqrt(12 * variance + 1) - 1) / 2).floor()
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    distance = torch.arange(-2, 3, device=sigma.device).abs()
    box = ((whole + part).unsqueeze(1) - distance + 1).clamp(0, 1)
    box = box / box.sum(1, keepdim=True)
    kernel = box
    for _ in range(2):
        wide = torch.nn.functional.pad(kernel, (4, 4))
        kernel = sum(
            (box[:, i : i + 1] * wide[:, i : i + kernel.shape[1] + 4] for i in range(5)),
            torch.zeros_like(sigma)[:, None],
        )
    return kernel
