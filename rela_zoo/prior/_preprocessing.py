"""From a PIL image to a prior's input tensor."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import torch
import torchvision.transforms.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode

from rela_zoo.errors import RelaZooError
from rela_zoo.registry import Preprocessing

UPSTREAM, RELA_REFERENCE = "upstream", "rela-reference"
PREPROCESSINGS = (UPSTREAM, RELA_REFERENCE)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def reference_preprocessing(upstream: Preprocessing) -> Preprocessing:
    """What the ReLA reference feeds every prior: resize and crop to the input size, ImageNet mean and deviation."""
    size = upstream.input_size
    return Preprocessing(input_size=size, resize=size, interpolation="bilinear", mean=_IMAGENET_MEAN, std=_IMAGENET_STD)


def as_rgb(image: Image.Image) -> Image.Image:
    """Any PIL image → RGB of 8 bits: grey is repeated, palettes are resolved, transparency is dropped.

    Raises:
        RelaZooError: for floating-point images, whose range is not known.
    """
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        # PIL clips 16-bit grey to 255 when converting; the high byte is what is wanted.
        return image.convert("I").point(lambda value: value / 256).convert("L").convert("RGB")
    if image.mode == "F":
        raise RelaZooError(
            "a floating-point image has no known range",
            expected="an image of 8 or 16 bits a channel",
            got="mode F",
            fix="convert the files to PNG or JPEG",
        )
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


@dataclass(frozen=True)
class ImageTransform:
    """PIL image of any size and mode → float32 tensor (3, S, S), normalised. Picklable, for loader workers.

    The shorter side is resized (with antialiasing), the centre is cropped. EXIF orientation is not applied.

    Args:
        preprocessing: sizes, interpolation, mean and deviation.
    """

    preprocessing: Preprocessing

    def __call__(self, image: Image.Image) -> Tensor:
        p = self.preprocessing
        out = F.resize(as_rgb(image), [p.resize], InterpolationMode(p.interpolation), antialias=True)
        pixels = F.pil_to_tensor(F.center_crop(out, [p.input_size, p.input_size]))
        return F.normalize(pixels.to(torch.float32) / 255, list(p.mean), list(p.std))

    def digest(self) -> str:
        """16 hex digits that change with every parameter."""
        text = json.dumps(self.preprocessing.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
