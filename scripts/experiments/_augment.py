"""Random views of a whole batch on its device, every image with chance of its own.

Views are described as in solo-learn's configurations (data.views). What differs from the pipeline of PIL: crops
are resized bilinearly instead of bicubically (a crop of a 32-pixel image is never shrunk, so antialiasing plays no
part), and the order of the four colour changes is drawn once a batch instead of once an image. The reason for an own
pipeline is that torchvision's transforms draw one set of parameters for a batch, which is a weaker augmentation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments import _colour
from experiments._data import MEAN, STD

View = Mapping[str, Any]
_ASPECT = (3 / 4, 4 / 3)
_ATTEMPTS = 10
_SIGMA = (0.1, 2.0)


class Augmentation:
    """uint8 images → normalised views, drawn from a generator of its own.

    Args:
        views: entries of a configuration's `augmentations`; `num_crops` counts as so many entries.
        device: of the images.
        seed: of all that is drawn here.
        mean, std: of the channels, for pixels in [0, 1].

    Raises:
        ValueError: for what isn't built here (equalisation, crops of several sizes).
    """

    def __init__(
        self,
        views: Sequence[View],
        device: torch.device,
        seed: int,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
    ) -> None:
        entries = [view for view in views for _ in range(int(view.get("num_crops", 1)))]
        sizes = {int(view["crop_size"]) for view in entries}
        if len(sizes) != 1 or any(_probability(view, "equalization") for view in entries):
            raise ValueError(f"expected views of one size without equalisation, got {list(views)}")
        self.count, self.size = len(entries), sizes.pop()
        self._device = device
        self._generator = torch.Generator(device).manual_seed(seed)
        # The order of colour changes decides which kernels are launched, so it is drawn where it is read.
        self._order = torch.Generator().manual_seed(seed)
        crops = [view.get("rrc") or {"enabled": False} for view in entries]
        if not all(crop["enabled"] for crop in crops):
            raise ValueError("expected every view to be a random resized crop (rrc.enabled: true)")
        jitter = [view.get("color_jitter") or {} for view in entries]
        self._values = {
            "low": [crop["crop_min_scale"] for crop in crops],
            "high": [crop["crop_max_scale"] for crop in crops],
            **{key: [j.get(key, 0.0) for j in jitter] for key in ("brightness", "contrast", "saturation", "hue")},
            **{
                f"p_{key}": [_probability(view, key) for view in entries]
                for key in ("color_jitter", "grayscale", "gaussian_blur", "solarization", "horizontal_flip")
            },
        }
        self._tensors = {key: torch.tensor(value, device=device) for key, value in self._values.items()}
        self._mean, self._std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (mean, std))

    def __call__(self, pixels: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) uint8 → as many views (B, 3, size, size) float32 as there are, channels last."""
        batch = len(pixels)
        # All views are made in one go, each with its own strengths: half the kernels to launch.
        images = pixels.repeat(self.count, 1, 1, 1).float().div_(255)
        strength = {key: value.repeat_interleave(batch) for key, value in self._tensors.items()}
        flip = self._chance(strength["p_horizontal_flip"])
        height, width = pixels.shape[-2:]
        out = crop_resize(images, self._boxes(strength, height, width), self.size, flip)
        if any(self._values["p_color_jitter"]):
            jittered = self._jitter(out, strength)
            out = torch.where(_each(self._chance(strength["p_color_jitter"])), jittered, out)
        if any(self._values["p_grayscale"]):
            out = torch.where(_each(self._chance(strength["p_grayscale"])), _colour.grey(out), out)
        if any(self._values["p_gaussian_blur"]):
            sigma = self._uniform(len(out)) * (_SIGMA[1] - _SIGMA[0]) + _SIGMA[0]
            blurred = _colour.gaussian_blur(out, sigma)
            out = torch.where(_each(self._chance(strength["p_gaussian_blur"])), blurred, out)
        if any(self._values["p_solarization"]):
            out = torch.where(_each(self._chance(strength["p_solarization"])), _colour.solarise(out), out)
        out = ((out - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        return list(out.split(batch))

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._generator, device=self._device)

    def _chance(self, probability: Tensor) -> Tensor:
        return self._uniform(len(probability)) < probability

    def _boxes(self, strength: Mapping[str, Tensor], height: int, width: int) -> Tensor:
        return random_boxes(
            self._uniform(4, _ATTEMPTS, len(strength["low"])), strength["low"], strength["high"], height, width
        )

    def _jitter(self, images: Tensor, strength: Mapping[str, Tensor]) -> Tensor:
        draws = self._uniform(4, len(images)) * 2 - 1
        for change in torch.randperm(4, generator=self._order).tolist():
            name = ("brightness", "contrast", "saturation", "hue")[change]
            if not any(self._values[name]):
                continue
            if name == "hue":
                factor = draws[change] * strength[name]
            else:
                # Uniform on [max(0, 1 − s), 1 + s].
                low = (1 - strength[name]).clamp(min=0)
                factor = low + (1 + strength[name] - low) * (draws[change] + 1) / 2
            images = getattr(_colour, f"adjust_{name}")(images, factor)
        return images


def _probability(view: View, key: str) -> float:
    return float((view.get(key) or {}).get("prob", 0.0))


def _each(parameter: Tensor) -> Tensor:
    return parameter.view(-1, 1, 1, 1)


def random_boxes(draws: Tensor, low: Tensor, high: Tensor, height: int, width: int) -> Tensor:
    """Boxes as torchvision's RandomResizedCrop draws them: the first of ten attempts that fits, else the whole image.

    Args:
        draws: (4, attempts, B) uniform on [0, 1): of area, aspect, top and left.
        low, high: (B,) fractions of the area.
        height, width: of the images in pixels, equal (else the fallback would differ from torchvision's).

    Returns:
        (4, B) float, whole numbers: top, left, height, width in pixels.
    """
    area = (low + (high - low) * draws[0]) * (height * width)
    aspect = torch.exp(math.log(_ASPECT[0]) + (math.log(_ASPECT[1]) - math.log(_ASPECT[0])) * draws[1])
    w, h = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.int().argmax(0, keepdim=True)
    found = fits.any(0)
    h = torch.where(found, h.gather(0, first)[0], float(height))
    w = torch.where(found, w.gather(0, first)[0], float(width))
    top, left = (draws[2][0] * (height - h + 1)).floor(), (draws[3][0] * (width - w + 1)).floor()
    return torch.stack([top, left, h, w])


def crop_resize(images: Tensor, boxes: Tensor, size: int, flip: Tensor) -> Tensor:
    """Cut a box out of each image, resize it bilinearly, mirror it where `flip` (B,) says so.

    Equal to torchvision's resized_crop without antialiasing: no pixel outside the box is looked at.

    Args:
        images: (B, C, H, W) float.
        boxes: (4, B): top, left, height, width in pixels.
        size: of the square result.
        flip: (B,) bool.
    """
    height, width = images.shape[-2:]
    top, left, h, w = (side.view(-1, 1) for side in boxes)
    steps = (torch.arange(size, device=images.device) + 0.5) / size
    across = torch.where(flip.view(-1, 1), steps.flip(0), steps)
    # Sampling points in pixels, held inside the box as resizing the cut-out image would.
    rows = top + torch.minimum((steps * h - 0.5).clamp(min=0), h - 1)
    columns = left + torch.minimum((across * w - 0.5).clamp(min=0), w - 1)
    # grid_sample's coordinates: −1 and 1 are the outer edges of the outermost pixels.
    y, x = (2 * rows + 1) / height - 1, (2 * columns + 1) / width - 1
    grid = torch.stack([x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], dim=-1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
