"""The network to be trained as its own prior: the reference's `Rand.`"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import nn

from rela_zoo.prior._build import feature_dim
from rela_zoo.prior._load import Prior
from rela_zoo.prior._preprocessing import UPSTREAM, ImageTransform
from rela_zoo.prior._untrained import within_float16
from rela_zoo.prior._weights import state_digest
from rela_zoo.registry import Preprocessing, PriorSpec


def untrained_prior(network: nn.Module, size: int, mean: Sequence[float], std: Sequence[float]) -> Prior:
    """A prior of a network as it is now, named `self`; the network itself is left alone.

    Args:
        network: images (B, 3, size, size) → features (B, D).
        size: side of its images, in pixels.
        mean: of the channels of RGB in [0, 1], three numbers.
        std: their deviations.
    """
    copied = copy.deepcopy(network).to("cpu").float().eval()
    digest = state_digest(copied.state_dict())
    transform = square_transform(size, mean, std)
    spec = PriorSpec(
        id="self",
        title="The student as it is initialised",
        source="callable",
        family="callable",
        architecture="student:untrained",
        licence="not-applicable",
        dim=feature_dim(copied, size),
        preprocessing=transform.preprocessing,
    )
    return Prior(within_float16(copied, size), spec, transform, UPSTREAM, None, digest)


def square_transform(size: int, mean: Sequence[float], std: Sequence[float]) -> ImageTransform:
    """How a student's images are prepared where nothing is random: the shorter side to `size`, and the centre."""
    return ImageTransform(
        Preprocessing(
            input_size=size,
            resize=size,
            interpolation="bilinear",
            mean=(float(mean[0]), float(mean[1]), float(mean[2])),
            std=(float(std[0]), float(std[1]), float(std[2])),
        )
    )
