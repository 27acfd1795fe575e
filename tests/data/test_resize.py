"""Pillow's resize on a device, against Pillow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rela_zoo.data.resize import Window, can_resize, filter_weights, resize

FILTERS = ("bilinear", "bicubic")
SHAPES = [(375, 500), (500, 333), (32, 32), (7, 300), (1, 1), (224, 224), (480, 640), (3, 2)]


def theirs(picture: np.ndarray, height: int, width: int, name: str) -> torch.Tensor:
    resized = Image.fromarray(picture).resize((width, height), Image.Resampling[name.upper()])
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


def pictures(height: int, width: int, seed: int = 0) -> list[np.ndarray]:
    """Noise, which goes to both ends; and the hardest: black and white only, which overshoots."""
    rng = np.random.default_rng([seed, height, width])
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return [noise, (noise > 127).astype(np.uint8) * 255]


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [32, 224, 256])
def test_pixels_are_pillows(shape: tuple[int, int], size: int, name: Any) -> None:
    height, width = shape
    rows, columns = Window(height, size, 0, size), Window(width, size + 5, 3, size)
    if not can_resize(name, rows, columns):
        pytest.skip("more pixels under the filter than can be summed exactly")
    both = pictures(height, width)
    ours = resize(torch.from_numpy(np.stack(both)), rows, columns, name)
    for mine, picture in zip(ours, both, strict=True):
        assert torch.equal(mine, theirs(picture, size, size + 5, name)[:, :, 3 : 3 + size])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 90), st.integers(1, 90), st.sampled_from(FILTERS))
def test_any_sizes(height: int, width: int, rows: int, columns: int, name: Any) -> None:
    axes = Window(height, rows, 0, rows), Window(width, columns, 0, columns)
    if not can_resize(name, *axes):
        return
    for picture in pictures(height, width):
        (ours,) = resize(torch.from_numpy(picture)[None], *axes, name)
        assert torch.equal(ours, theirs(picture, rows, columns, name))


def test_lower_halves_stay_exact_in_float32() -> None:
    """What `can_resize` allows at most: no sum of lower halves may reach 2²⁴, nor a whole one 2³¹."""
    for name, length in (("bicubic", 15 * 40), ("bilinear", 31 * 40)):
        assert can_resize(name, Window(length, 40, 0, 40))
        assert not can_resize(name, Window(length + 41, 40, 0, 40))
        _, weights = filter_weights(length, 40, name)  # type: ignore[arg-type]
        upper = (weights + 1024) >> 11
        assert np.abs(weights - (upper << 11)).sum(1).max() * 255 < 2**24
        assert np.abs(upper).sum(1).max() * 255 < 2**24
        assert np.abs(weights).sum(1).max() * 255 + 2**21 < 2**31


def test_what_is_not_pillows_is_refused() -> None:
    good = Window(100, 50, 0, 50)
    assert can_resize("bicubic", good, good)
    assert not can_resize("lanczos", good)
    assert not can_resize("bicubic", good, Window(100, 50, -3, 56))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_on_a_gpu(shape: tuple[int, int], name: Any, tf32: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", tf32)
    height, width = shape
    axes = Window(height, 224, 0, 224), Window(width, 224, 0, 224)
    both = pictures(height, width)
    ours = resize(torch.from_numpy(np.stack(both * 8)).cuda(), *axes, name).cpu()
    for mine, picture in zip(ours, both * 8, strict=True):
        assert torch.equal(mine, theirs(picture, 224, 224, name))
