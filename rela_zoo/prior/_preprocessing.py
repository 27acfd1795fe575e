"""From a PIL image to a prior's input tensor."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache

import torch
import torchvision.transforms.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode

from rela_zoo.data import as_rgb
from rela_zoo.data.resize import MOST_PIXELS, Window, can_resize, resize
from rela_zoo.data.statistics import IMAGENET
from rela_zoo.data.views import MAX_RESIZED_PIXELS, ResizeAndCrop
from rela_zoo.registry import Preprocessing

UPSTREAM, RELA_REFERENCE = "upstream", "rela-reference"
PREPROCESSINGS = (UPSTREAM, RELA_REFERENCE)

_Three = tuple[float, float, float]


def reference_preprocessing(upstream: Preprocessing) -> Preprocessing:
    """What the ReLA reference feeds every prior: resize and crop to the input size, ImageNet mean and deviation."""
    size, (mean, std) = upstream.input_size, IMAGENET
    return Preprocessing(input_size=size, resize=size, interpolation="bilinear", mean=mean, std=std)


@dataclass(frozen=True)
class ImageTransform:
    """PIL image of any size and mode → float32 tensor (3, S, S), normalised. Picklable, for loader workers.

    The shorter side is resized (with antialiasing; both sides for `squash`), the centre is cropped. EXIF
    orientation is not applied. Of a long strip only the middle is enlarged, so that memory stays bounded.

    Args:
        preprocessing: sizes, interpolation, mean and deviation.
    """

    preprocessing: Preprocessing

    def __call__(self, image: Image.Image) -> Tensor:
        return self.normalise(self.pixels(image))

    def pixels(self, image: Image.Image) -> Tensor:
        """The first half, for loader workers: PIL image → uint8 (3, S, S), resized and cropped."""
        p = self.preprocessing
        interpolation = InterpolationMode(p.interpolation)
        if p.crop_mode == "squash":
            squashed = F.resize(as_rgb(image), [p.resize, p.resize], interpolation, antialias=True)
            return F.pil_to_tensor(F.center_crop(squashed, [p.input_size, p.input_size]))
        return F.pil_to_tensor(ResizeAndCrop(p.resize, p.input_size, interpolation)(as_rgb(image)))

    def leaves_whole(self, height: int, width: int) -> bool:
        """Whether `resized`, on a GPU, may take the place of `pixels` for an RGB image of this size, to its very bits.

        Not where the image is too large to be handed over, nor where it has the right size already.
        """
        p = self.preprocessing
        if height * width > MOST_PIXELS:
            return False
        rows, columns = self._windows(height, width)
        if rows.total * columns.total > MAX_RESIZED_PIXELS or (rows.total, columns.total) == (height, width):
            return False
        return can_resize(p.interpolation, rows, columns)

    def resized(self, images: Tensor) -> Tensor:
        """RGB images of one size that `leaves_whole` allows, (B, H, W, 3) uint8 on any device → (B, 3, S, S) uint8.

        Bit for bit what `pixels` gives of each.
        """
        _, height, width, _ = images.shape
        return resize(images, *self._windows(height, width), self.preprocessing.interpolation)  # type: ignore[arg-type]

    def _windows(self, height: int, width: int) -> tuple[Window, Window]:
        """Of rows and columns, as torchvision's Resize and CenterCrop choose them."""
        p, short = self.preprocessing, min(height, width)
        squashes = p.crop_mode == "squash"
        found = []
        for side in (height, width):
            total = p.resize if squashes or side == short else int(p.resize * side / short)
            found.append(Window(side, total, round((total - p.input_size) / 2), p.input_size))
        return found[0], found[1]

    def normalise(self, pixels: Tensor) -> Tensor:
        """The second half, for a whole batch on the device: uint8 (…, 3, S, S) → float32, the same bits everywhere."""
        scale, mean, std = _constants(self.preprocessing.mean, self.preprocessing.std, pixels.device)
        return pixels.to(torch.float32).div_(scale).sub_(mean).div_(std)

    def digest(self) -> str:
        """16 hex digits that change with every parameter."""
        facts = self.preprocessing.model_dump(mode="json")
        if facts["crop_mode"] == "center":
            del facts["crop_mode"]  # artefacts from before there was another
        text = json.dumps(facts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@lru_cache(maxsize=64)
def _constants(mean: _Three, std: _Three, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """255, mean and deviation on a device; kept, for each copy there would wait for the device.

    255 is a tensor, for CUDA multiplies by the reciprocal of a number, and that rounds otherwise.
    """
    with torch.inference_mode(False):  # or they would be of no use outside of it
        whole = torch.tensor(255.0, device=device)
        return whole, *(torch.tensor(three, device=device).view(3, 1, 1) for three in (mean, std))  # type: ignore[return-value]
