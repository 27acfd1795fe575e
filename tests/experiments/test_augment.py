from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from experiments._augment import Augmentation, crop_resize, random_boxes
from experiments._data import normalise
from torchvision.transforms.v2 import functional as F

CPU = torch.device("cpu")
CROP = {"rrc": {"enabled": True, "crop_min_scale": 1.0, "crop_max_scale": 1.0}, "crop_size": 32}


def view(**changes: Any) -> dict[str, Any]:
    """A view that does nothing (the whole image, always) but for the changes."""
    return {**CROP, **changes}


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_crops_are_those_of_torchvision() -> None:
    images = torch.rand(5, 3, 32, 32)
    boxes = torch.tensor([[0, 0, 32, 32], [3, 5, 20, 27], [31, 31, 1, 1], [10, 0, 8, 32], [0, 12, 9, 7]])
    flip = torch.tensor([False, True, False, True, True])
    ours = crop_resize(images, boxes.T.float(), 32, flip)
    for mine, image, (top, left, height, width), mirrored in zip(
        ours, images, boxes.tolist(), flip.tolist(), strict=True
    ):
        theirs = F.resized_crop(image, top, left, height, width, [32, 32], antialias=False)
        torch.testing.assert_close(mine, F.horizontal_flip(theirs) if mirrored else theirs, atol=1e-5, rtol=0)


def test_boxes_are_those_of_a_slow_loop() -> None:
    draws = torch.rand(4, 10, 200, generator=torch.Generator().manual_seed(1))
    low, high = torch.full((200,), 0.08), torch.full((200,), 1.0)
    ours = random_boxes(draws, low, high, 32, 32)
    for i in range(200):
        box = (0.0, 0.0, 32.0, 32.0)
        for attempt in range(10):
            area = (0.08 + 0.92 * draws[0, attempt, i].item()) * 1024
            aspect = math.exp(math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * draws[1, attempt, i].item())
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= 32 and 0 < h <= 32:
                box = (int(draws[2, 0, i].item() * (33 - h)), int(draws[3, 0, i].item() * (33 - w)), h, w)
                break
        assert ours[:, i].tolist() == list(map(float, box))


def test_a_view_that_does_nothing(pixels: torch.Tensor) -> None:
    (out,) = Augmentation([view()], CPU, 0)(pixels)
    torch.testing.assert_close(out, normalise(pixels), atol=1e-5, rtol=1e-5)
    assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "change",
    [
        {"horizontal_flip": {"prob": 0.5}},
        {"grayscale": {"prob": 0.5}},
        {"solarization": {"prob": 0.5}},
        {"gaussian_blur": {"prob": 0.5}},
        {"color_jitter": {"prob": 0.5, "brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}},
    ],
)
def test_chance_is_each_images_own(pixels: torch.Tensor, change: dict[str, Any]) -> None:
    (out,) = Augmentation([view(**change)], CPU, 3)(pixels)
    touched = (out - normalise(pixels)).abs().amax((1, 2, 3)) > 1e-3
    assert 16 < int(touched.sum()) < 48, "about half of 64"


def test_factors_differ_from_image_to_image() -> None:
    pixels = torch.full((32, 3, 32, 32), 100, dtype=torch.uint8)
    jitter = {"prob": 1.0, "brightness": 0.5, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    (out,) = Augmentation([view(color_jitter=jitter)], CPU, 0, mean=(0, 0, 0), std=(1, 1, 1))(pixels)
    factors = out[:, 0, 0, 0] * 255 / 100
    assert len(factors.unique()) == 32
    assert 0.5 <= float(factors.min()) < 0.65
    assert 1.35 < float(factors.max()) <= 1.5


def test_views_keep_their_own_strengths(pixels: torch.Tensor) -> None:
    first, second = Augmentation([view(), view(solarization={"prob": 1.0})], CPU, 0)(pixels)
    torch.testing.assert_close(first, normalise(pixels), atol=1e-5, rtol=1e-5)
    assert ((second - first).abs().amax((1, 2, 3)) > 0.1).all()


def test_the_seed_decides(pixels: torch.Tensor) -> None:
    views = [view(rrc={"enabled": True, "crop_min_scale": 0.2, "crop_max_scale": 1.0}, num_crops=2)]
    first, same, other = (Augmentation(views, CPU, seed)(pixels) for seed in (0, 0, 1))
    assert torch.equal(torch.cat(first), torch.cat(same))
    assert not torch.equal(torch.cat(first), torch.cat(other))
    assert not torch.equal(first[0], first[1]), "two views of one image differ"


@pytest.mark.parametrize("bad", [view(equalization={"prob": 0.1}), {**CROP, "rrc": {"enabled": False}}])
def test_what_is_not_built_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Augmentation([bad], CPU, 0)
