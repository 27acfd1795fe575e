"""Views: what a configuration describes is what is built."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from rela_zoo.data import views
from rela_zoo.data.views import (
    RELA_VIEW,
    MultiViews,
    ResizeAndCrop,
    build_view,
    build_views,
    find_normalisation,
    validation_transform,
)

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
STILL = {"rrc": {"enabled": False}, "crop_size": 16}


@pytest.fixture
def image():
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_without_chance_it_is_resize_and_normalise(image):
    expected = transforms.functional.to_tensor(image.resize((16, 16), Image.Resampling.BICUBIC))
    expected = (expected - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    assert torch.allclose(build_view(STILL, MEAN, STD)(image), expected, atol=0.02)


@pytest.mark.parametrize(
    "part",
    [
        {"horizontal_flip": {"prob": 1.0}},
        {"grayscale": {"prob": 1.0}},
        {"gaussian_blur": {"prob": 1.0}},
        {"solarization": {"prob": 1.0}},
        {"equalization": {"prob": 1.0}},
        {"color_jitter": {"prob": 1.0, "brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.1}},
        {"rrc": {"enabled": True, "crop_min_scale": 0.2, "crop_max_scale": 0.3}},
    ],
    ids=lambda part: next(iter(part)),
)
def test_each_part_does_something_and_only_when_asked(image, part):
    plain = build_view(STILL, MEAN, STD)(image)
    assert not torch.equal(build_view({**STILL, **part}, MEAN, STD)(image), plain)
    off = {key: {**value, "prob": 0.0} if "prob" in value else {"enabled": False} for key, value in part.items()}
    assert torch.equal(build_view({**STILL, **off}, MEAN, STD)(image), plain)


def test_flip_and_grey_are_what_they_say(image):
    plain = build_view(STILL, [0, 0, 0], [1, 1, 1])(image)
    flipped = build_view({**STILL, "horizontal_flip": {"prob": 1.0}}, [0, 0, 0], [1, 1, 1])(image)
    assert torch.equal(flipped, plain.flip(2))
    grey = build_view({**STILL, "grayscale": {"prob": 1.0}}, [0, 0, 0], [1, 1, 1])(image)
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(grey[1], grey[2])


def test_chance_comes_from_torch_alone(image):
    view = build_view({**RELA_VIEW, "crop_size": 16, "gaussian_blur": {"prob": 1.0}}, MEAN, STD)
    torch.manual_seed(3)
    first = view(image)
    torch.manual_seed(3)
    assert torch.equal(view(image), first)


def test_the_accelerated_views_are_those_of_the_reference():
    assert RELA_VIEW["rrc"] == {"enabled": True, "crop_min_scale": 0.5, "crop_max_scale": 1.0}
    assert list(RELA_VIEW["color_jitter"].values()) == [0.8, 0.8, 0.8, 0.8, 0.2]
    assert (RELA_VIEW["grayscale"]["prob"], RELA_VIEW["horizontal_flip"]["prob"]) == (0.2, 0.5)
    assert RELA_VIEW["gaussian_blur"]["prob"] == RELA_VIEW["solarization"]["prob"] == 0.0


def test_number_of_views(image):
    large, small = {**RELA_VIEW, "crop_size": 16, "num_crops": 2}, {**RELA_VIEW, "crop_size": 8, "num_crops": 3}
    views = build_views([large, small], MEAN, STD)(image)
    assert [tuple(view.shape) for view in views] == [(3, 16, 16)] * 2 + [(3, 8, 8)] * 3


def test_normalisation_is_found_however_deep():
    class Pipeline:  # shaped like the host's: transforms → transform → Compose
        def __init__(self, transforms_):
            self.transforms = transforms_

    class Crops:
        def __init__(self, transform):
            self.transform = transform

    inner = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    assert find_normalisation(Pipeline([Crops(inner)])) == (MEAN, STD)
    assert find_normalisation(MultiViews([(inner, 2)])) == (MEAN, STD)
    assert find_normalisation(build_views([{**STILL}], MEAN, STD)) == (MEAN, STD)
    assert find_normalisation(transforms.ToTensor()) is None
    assert find_normalisation(None) is None


@pytest.mark.parametrize(("size", "resized"), [(16, 16), (64, 64), (112, 128)])
def test_validation_transform(size, resized):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (130, 90, 3), dtype=np.uint8))
    expected = transforms.Compose(
        [
            transforms.Resize(resized, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    assert torch.equal(validation_transform(size, MEAN, STD)(image), expected(image))


@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("size", "resize", "crop"),
    [
        ((3000, 1), 24, 24),
        ((1, 3001), 24, 16),
        ((5000, 7), 24, 15),
        ((60, 4000), 24, 24),
        ((33, 40), 24, 24),
        ((9, 9), 24, 24),
    ],
)
def test_a_strip_is_what_it_is_when_enlarged_as_a_whole(monkeypatch, size, resize, crop, name):
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image, mode = Image.fromarray(pixels), transforms.InterpolationMode(name)
    whole = ResizeAndCrop(resize, crop, mode)(image)
    expected = transforms.CenterCrop(crop)(transforms.Resize(resize, interpolation=mode)(image))
    np.testing.assert_array_equal(np.asarray(whole), np.asarray(expected))
    monkeypatch.setattr(views, "MAX_RESIZED_PIXELS", 0)
    windowed = ResizeAndCrop(resize, crop, mode)(image)
    assert windowed.size == (crop, crop)
    assert np.abs(np.asarray(windowed, np.int16) - np.asarray(expected)).max() <= 1


def test_a_strip_is_no_trouble_for_any_view():
    image = Image.new("RGB", (60000, 1), (9, 99, 199))
    for view in (STILL, {**RELA_VIEW, "crop_size": 16}):
        assert build_view(view, MEAN, STD)(image).shape == (3, 16, 16)
    assert validation_transform(224, MEAN, STD)(image).shape == (3, 224, 224)
