"""Views read off a transform are those that it makes; what isn't known is refused."""

from __future__ import annotations

from typing import Any

import pytest
from torchvision import transforms as T

from rela_zoo.data.read_views import UnreadableViewsError, read_views
from rela_zoo.data.views import RELA_VIEW, build_views

BICUBIC = T.InterpolationMode.BICUBIC
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]


def _of_solo(name: str, **values: Any) -> Any:
    """An object of a class that has the name and the attributes of one of solo-learn's."""
    return type(name, (), {"__module__": "solo.data.pretrain_dataloader", **values})()


def _crop(**changes: Any) -> Any:
    return T.RandomResizedCrop(32, scale=(0.2, 1.0), **{"interpolation": BICUBIC, **changes})


def _end(mean: Any = MEAN) -> list[Any]:
    return [T.ToTensor(), T.Normalize(mean, STD)]


def _pipeline(*views: tuple[list[Any], int]) -> Any:
    parts = [_of_solo("NCropAugmentation", transform=T.Compose(steps), num_crops=times) for steps, times in views]
    return _of_solo("FullTransformPipeline", transforms=parts)


JITTER = T.RandomApply([T.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8)
BLUR = T.RandomApply([_of_solo("GaussianBlur", sigma=[0.1, 2.0])], p=0.3)


def test_all_that_solo_learn_can_say() -> None:
    steps = [
        _crop(),
        JITTER,
        T.RandomGrayscale(p=0.2),
        BLUR,
        T.RandomApply([_of_solo("Solarization")], p=0.1),
        T.RandomApply([_of_solo("Equalization")], p=0.05),
        T.RandomHorizontalFlip(p=0.5),
    ]
    small = T.RandomResizedCrop(16, scale=(0.05, 0.2), interpolation=BICUBIC)
    entries, mean, std = read_views(_pipeline(([*steps, *_end()], 2), ([small, *_end()], 3)))
    assert (mean, std) == (MEAN, STD)
    assert entries == [
        {
            "crop_size": 32,
            "num_crops": 2,
            "rrc": {"enabled": True, "crop_min_scale": 0.2, "crop_max_scale": 1.0},
            "color_jitter": {
                "prob": 0.8,
                "brightness": [0.6, 1.4],
                "contrast": [0.6, 1.4],
                "saturation": [0.8, 1.2],
                "hue": [-0.1, 0.1],
            },
            "grayscale": {"prob": 0.2},
            "gaussian_blur": {"prob": 0.3},
            "solarization": {"prob": 0.1},
            "equalization": {"prob": 0.05},
            "horizontal_flip": {"prob": 0.5},
        },
        {"crop_size": 16, "num_crops": 3, "rrc": {"enabled": True, "crop_min_scale": 0.05, "crop_max_scale": 0.2}},
    ]


def test_a_jitter_that_leaves_something_alone() -> None:
    jitter = T.RandomApply([T.ColorJitter(0.4, 0, 0, 0)], p=0.8)
    ((entry,), _, _) = read_views(_pipeline(([_crop(), jitter, *_end()], 1)))
    assert entry["color_jitter"]["contrast"] == [1.0, 1.0]
    assert entry["color_jitter"]["hue"] == [0.0, 0.0]


def test_this_packages_own() -> None:
    entries = [{**RELA_VIEW, "crop_size": 32, "num_crops": 2}]
    assert read_views(build_views(entries, MEAN, STD)) == (entries, MEAN, STD)


@pytest.mark.parametrize(
    ("transform", "reason"),
    [
        (T.Compose([_crop(), *_end()]), "Compose"),
        (_pipeline(([T.Resize(32, interpolation=BICUBIC), *_end()], 2)), "Resize"),
        (_pipeline(([_crop(ratio=(0.5, 2.0)), *_end()], 2)), "another shape"),
        (_pipeline(([_crop(interpolation=T.InterpolationMode.BILINEAR), *_end()], 2)), "interpolation"),
        (_pipeline(([_crop(), T.RandomVerticalFlip(), *_end()], 2)), "RandomVerticalFlip"),
        (_pipeline(([_crop(), T.RandomApply([T.GaussianBlur(3)]), *_end()], 2)), "GaussianBlur in RandomApply"),
        (_pipeline(([_crop(), T.RandomApply([_of_solo("GaussianBlur", sigma=[1, 2])]), *_end()], 2)), "GaussianBlur"),
        (_pipeline(([_crop(), BLUR, JITTER, *_end()], 2)), "after what it comes before"),
        (_pipeline(([_crop(), JITTER, JITTER, *_end()], 2)), "after what it comes before"),
        (_pipeline(([_crop(), *_end(), T.RandomErasing()], 2)), "at its end"),
        (_pipeline(([_crop(), *_end()], 2), ([_crop(), *_end([0.1] * 3)], 1)), "normalised differently"),
        (_pipeline((_end(), 1)), "Compose"),
    ],
)
def test_what_is_not_known_is_refused(transform: Any, reason: str) -> None:
    with pytest.raises(UnreadableViewsError, match=reason):
        read_views(transform)
