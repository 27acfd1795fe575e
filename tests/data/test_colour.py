"""Colour changes of a batch against torchvision's and Pillow's, image by image."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps
from torchvision.transforms.v2 import functional as F

from rela_zoo.data import colour


@pytest.fixture
def images() -> torch.Tensor:
    """Noise, and the corners of the colour cube, where hue is undefined or changes its formula."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(6, 3, 32, 32, generator=generator)
    noise[5] = torch.randint(0, 2, (3, 32, 32), generator=generator).float()
    noise[4] = noise[4, :1]
    return noise


@pytest.fixture
def pictures() -> list[Image.Image]:
    generator = np.random.default_rng(0)
    shades = [np.arange(32)[:, None, None] * np.ones((1, 32, 3)) * scale for scale in (2, 8)]
    noise = [generator.integers(0, high, (32, 32, 3)) for high in (50, 256)]
    return [Image.fromarray(pixels.astype(np.uint8)) for pixels in [*shades, *noise]]


def batch(pictures: list[Image.Image]) -> torch.Tensor:
    return torch.stack([F.to_dtype(F.pil_to_tensor(one), torch.float32, scale=True) for one in pictures])


FACTORS = {
    "brightness": (0.0, 0.3, 1.0, 1.4, 1.8, 3.0),
    "contrast": (0.0, 0.3, 1.0, 1.4, 1.8, 3.0),
    "saturation": (0.0, 0.3, 1.0, 1.4, 1.8, 3.0),
    "hue": (-0.5, -0.2, 0.0, 0.1, 0.3, 0.5),
}


@pytest.mark.parametrize("change", range(4), ids=FACTORS)
def test_each_image_gets_its_own_change(images: torch.Tensor, change: int) -> None:
    name, factors = list(FACTORS.items())[change]
    turned = torch.arange(6) if change == colour.HUE else None
    ours = colour.jitter(images, torch.full((1, 6), change), torch.tensor([factors]), [turned])
    theirs = torch.stack([getattr(F, f"adjust_{name}")(x, f) for x, f in zip(images, factors, strict=True)])
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)
    one_by_one = colour.jitter_each(images.clone(), np.full((1, 6), change), np.array([factors]))
    torch.testing.assert_close(one_by_one, theirs, atol=2e-5, rtol=0)


def test_every_order_of_changes(images: torch.Tensor) -> None:
    orders = torch.tensor(list(itertools.permutations(range(4))))
    factors = torch.rand(24, 4, generator=torch.Generator().manual_seed(1)) * torch.tensor(
        [1, 1, 1, 0.4]
    ) + torch.tensor([0.5, 0.5, 0.5, -0.2])
    many = images.repeat(4, 1, 1, 1)
    before = many.clone()
    turned = [torch.nonzero(orders[:, step] == colour.HUE)[:, 0] for step in range(4)]
    ours = colour.jitter(many, orders.T, factors.gather(1, orders).T, turned)
    assert torch.equal(many, before), "what was given is left alone"
    one_by_one = colour.jitter_each(many.clone(), orders.T.numpy(), factors.gather(1, orders).T.numpy())
    torch.testing.assert_close(one_by_one, ours, atol=1e-4, rtol=0)
    for mine, image, order, factor in zip(ours, many, orders.tolist(), factors.tolist(), strict=True):
        for change in order:
            image = getattr(F, f"adjust_{list(FACTORS)[change]}")(image, factor[change])
        torch.testing.assert_close(mine, image, atol=1e-4, rtol=0)


def test_factors_that_change_nothing_change_nothing(images: torch.Tensor) -> None:
    still = torch.tensor([[1.0], [1.0], [1.0], [0.0]]).expand(4, 6)
    assert torch.equal(colour.jitter(images, torch.arange(4)[:, None].expand(4, 6), still, [None] * 4), images)
    changes = torch.arange(4)[:, None].expand(4, 6).numpy()
    assert torch.equal(colour.jitter_each(images.clone(), changes, still.numpy()), images)


def test_grey(images: torch.Tensor) -> None:
    torch.testing.assert_close(colour.grey(images), F.rgb_to_grayscale(images), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["solarise", "equalise"])
def test_it_is_pillows(pictures: list[Image.Image], name: str) -> None:
    theirs = [ImageOps.solarize(one) if name == "solarise" else ImageOps.equalize(one) for one in pictures]
    torch.testing.assert_close(getattr(colour, name)(batch(pictures)), batch(theirs), atol=1e-6, rtol=0)


@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.7, 1.0, 1.6, 2.0])
def test_blur_is_pillows(pictures: list[Image.Image], sigma: float) -> None:
    theirs = batch([one.filter(ImageFilter.GaussianBlur(sigma)) for one in pictures])
    ours = colour.gaussian_blur(batch(pictures), torch.full((4,), sigma))
    # Pillow rounds to whole steps after each of its six passes, and each looks at the border anew.
    inner = (..., slice(6, -6), slice(6, -6))
    torch.testing.assert_close(ours[inner], theirs[inner], atol=3 / 255, rtol=0)
    assert (ours - theirs).abs().mean() < 1 / 255


def test_every_image_is_blurred_by_its_own_sigma(images: torch.Tensor) -> None:
    sigmas = torch.tensor([0.1, 0.5, 1.0, 1.3, 1.7, 2.0])
    alone = [colour.gaussian_blur(x[None], s[None]) for x, s in zip(images, sigmas, strict=True)]
    torch.testing.assert_close(colour.gaussian_blur(images, sigmas), torch.cat(alone))
