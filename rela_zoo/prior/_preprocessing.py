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

from rela_zoo.data import as_rgb
from rela_zoo.data.statistics import IMAGENET
from rela_zoo.data.views import ResizeAndCrop
from rela_zoo.registry import Preprocessing

UPSTREAM, RELA_REFERENCE = "upstream", "rela-reference"
PREPROCESSINGS = (UPSTREAM, RELA_REFERENCE)


def reference_preprocessing(upstream: Preprocessing) -> Preprocessing:
    """What the ReLA reference feeds every prior: resize and crop to the input size, ImageNet mean and deviation."""
    size, (mean, std) = upstream.input_size, IMAGENET
    return Preprocessing(input_size=size, resize=size, interpolation="bilinear", mean=mean, std=std)


@dataclass(frozen=True)
class ImageTransform:
    """PIL image of any size and mode → float32 tensor (3, S, S), normalised. Picklable, for loader workers.

    The shorter side is resized (with antialiasing), the centre is cropped. EXIF orientation is not applied. Of a long
    strip only the middle is enlarged, so that memory stays bounded.

    Args:
        preprocessing: sizes, interpolation, mean and deviation.
    """

    preprocessing: Preprocessing

    def __call__(self, image: Image.Image) -> Tensor:
        p = self.preprocessing
        crop = ResizeAndCrop(p.resize, p.input_size, InterpolationMode(p.interpolation))
        pixels = F.pil_to_tensor(crop(as_rgb(image)))
        return F.normalize(pixels.to(torch.float32) / 255, list(p.mean), list(p.std))

    def digest(self) -> str:
        """16 hex digits that change with every parameter."""
        text = json.dumps(self.preprocessing.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
