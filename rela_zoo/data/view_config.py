"""What a configuration says of a random view: an entry of `augmentations`, as in solo-learn's."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from rela_zoo._io.fields import Fix, Problems, Section
from rela_zoo.errors import Problem

_Probability = Annotated[int | float, Field(ge=0, le=1, description="a probability in [0, 1]")]
_Strength = Annotated[int | float, Field(ge=0, description="a number ≥ 0, or a range")] | list[int | float] | None
_Channels = (
    Annotated[
        list[int | float],
        Field(min_length=3, max_length=3, description="three numbers, one a channel"),
        Fix("give three numbers, or remove it"),
    ]
    | None
)
_SCALES = "see the packaged views"


class Crop(Section):
    """`rrc`: a random resized crop; without it the image is resized and its centre cropped."""

    enabled: bool = False
    crop_min_scale: Annotated[int | float | None, Field(description="a number in (0, 1]"), Fix(_SCALES)] = None
    crop_max_scale: Annotated[int | float | None, Field(description="a number in (0, 1]"), Fix(_SCALES)] = None


class Chance(Section):
    """A change that happens to some of the images."""

    prob: _Probability = 0.0


class ColorJitter(Chance):
    """`color_jitter`: the strengths are torchvision's."""

    brightness: _Strength = None
    contrast: _Strength = None
    saturation: _Strength = None
    hue: _Strength = None


class View(Section):
    """One entry of `augmentations`; what is left out does not happen.

    Attributes:
        crop_size: side of the view, pixels.
        num_crops: how many views of an image are made in this way.
        mean: of the channels, for pixels in [0, 1]; of custom data only.
        std: of the channels.
    """

    crop_size: Annotated[int, Field(ge=1, description="an integer ≥ 1"), Fix("give the view a crop_size")]
    num_crops: Annotated[int, Field(ge=1, description="an integer ≥ 1"), Fix("give the view a num_crops")] = 1
    rrc: Crop | None = None
    color_jitter: ColorJitter | None = None
    grayscale: Chance | None = None
    gaussian_blur: Chance | None = None
    solarization: Chance | None = None
    equalization: Chance | None = None
    horizontal_flip: Chance | None = None
    mean: _Channels = None
    std: _Channels = None

    @field_validator("rrc")
    @classmethod
    def _scales_in_order(cls, crop: Crop | None) -> Crop | None:
        if crop is not None and crop.enabled:
            low, high = crop.crop_min_scale, crop.crop_max_scale
            if low is None or high is None or not 0 < low <= high <= 1:
                expected = "0 < crop_min_scale ≤ crop_max_scale ≤ 1"
                raise Problems([Problem("", expected, f"({low}, {high})", _SCALES)])
        return crop

    @field_validator("color_jitter")
    @classmethod
    def _strengths_given(cls, jitter: ColorJitter | None) -> ColorJitter | None:
        if jitter is not None and jitter.prob:
            strengths: dict[str, Any] = jitter.model_dump(exclude={"prob"})
            missing = [key for key, value in strengths.items() if value is None]
            if missing:
                raise Problems([Problem(key, "a strength", "nothing", "set {key}=0.4") for key in missing])
        return jitter
