"""What a configuration may say of a view."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from rela_zoo._io.paths import packaged_configs
from rela_zoo._io.validation import validate
from rela_zoo.data.view_config import View
from rela_zoo.data.views import RELA_VIEW

CROP = {"enabled": True, "crop_min_scale": 0.5, "crop_max_scale": 1.0}
JITTER = {"prob": 0.8, "brightness": 0.4, "contrast": [0.6, 1.4], "saturation": 0.2, "hue": 0.1}


def keys(view: dict[str, Any]) -> list[str]:
    return [one.key for one in validate(View, {"crop_size": 32, **view})[1]]


def test_the_views_of_this_package_are_right() -> None:
    files = sorted((packaged_configs() / "augmentations").glob("*.yaml"))
    assert len(files) > 3
    for view in [view for file in files for view in yaml.safe_load(file.read_text())]:
        # Left to `image_size`.
        assert view.pop("crop_size") in ("${oc.select:image_size,auto}", "half")
        assert keys(view) == []
    assert keys(RELA_VIEW) == []


@pytest.mark.parametrize(
    ("view", "wanted"),
    [
        ({"rrc": CROP, "color_jitter": JITTER, "mean": [0.5] * 3, "std": [0.5] * 3, "num_crops": 2}, []),
        ({"rrc": {"enabled": False}, "color_jitter": {"prob": 0.0}, "grayscale": None}, []),
        ({"color_jiter": JITTER}, ["color_jiter"]),
        ({"color_jitter": {**JITTER, "brightnes": 1}}, ["color_jitter.brightnes"]),
        ({"color_jitter": {**JITTER, "contrast": None}}, ["color_jitter.contrast"]),
        ({"color_jitter": {"prob": 0.8}}, [f"color_jitter.{key}" for key in list(JITTER)[1:]]),
        ({"color_jitter": {**JITTER, "hue": "x"}}, ["color_jitter.hue"]),
        ({"grayscale": {"prob": 80}}, ["grayscale.prob"]),
        ({"grayscale": {"prob": True}}, ["grayscale.prob"]),
        ({"rrc": {"enabled": True}}, ["rrc"]),
        ({"rrc": {**CROP, "crop_min_scale": 2}}, ["rrc"]),
        ({"rrc": {**CROP, "crop_min_scale": "x"}}, ["rrc.crop_min_scale"]),
        ({"crop_size": 0}, ["crop_size"]),
        ({"num_crops": 1.0}, ["num_crops"]),
        ({"mean": [0.5]}, ["mean"]),
    ],
    ids=str,
)  # fmt: skip
def test_problems_name_their_key(view: dict[str, Any], wanted: list[str]) -> None:
    assert keys(view) == wanted
