from __future__ import annotations

import pytest
import torch
from experiments import _colour
from torchvision.transforms.v2 import functional as F


@pytest.fixture
def images() -> torch.Tensor:
    """Noise, and the corners of the colour cube, where hue is undefined or changes its formula."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(6, 3, 32, 32, generator=generator)
    noise[5] = torch.randint(0, 2, (3, 32, 32), generator=generator).float()
    noise[4] = noise[4, :1]
    return noise


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_each_image_gets_its_own_change(images: torch.Tensor, name: str) -> None:
    factors = (
        torch.tensor([-0.5, -0.2, 0.0, 0.1, 0.3, 0.5]) if name == "hue" else torch.tensor([0.0, 0.3, 1, 1.4, 1.8, 3])
    )
    ours = getattr(_colour, f"adjust_{name}")(images, factors)
    theirs = torch.stack([getattr(F, f"adjust_{name}")(x, float(f)) for x, f in zip(images, factors, strict=True)])
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)


def test_grey(images: torch.Tensor) -> None:
    torch.testing.assert_close(_colour.grey(images), F.rgb_to_grayscale(images), atol=1e-6, rtol=0)


def test_solarise(images: torch.Tensor) -> None:
    torch.testing.assert_close(_colour.solarise(images), F.solarize(images, 128 / 255))


def test_blur(images: torch.Tensor) -> None:
    sigmas = torch.tensor([0.1, 0.5, 1.0, 1.3, 1.7, 2.0])
    ours = _colour.gaussian_blur(images, sigmas)
    theirs = torch.stack([F.gaussian_blur(x, [13, 13], [float(s)] * 2) for x, s in zip(images, sigmas, strict=True)])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
