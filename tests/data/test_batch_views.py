"""Views of a batch against the pipeline that makes them one image at a time."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from rela_zoo.data.batch_views import BatchViews, random_boxes, resample, resample_each
from rela_zoo.data.views import RELA_VIEW, build_view

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
PLAIN = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
STILL = {"rrc": {"enabled": False}, "crop_size": 32}
CROP = {"enabled": True, "crop_min_scale": 0.2, "crop_max_scale": 1.0}
JITTER = {"prob": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (MEAN, STD))
    return (pixels.float() / 255 - mean) / std


def views(augmentations: Any, seed: int = 0, statistics: Any = (MEAN, STD)) -> BatchViews:
    return BatchViews(augmentations, *statistics, seed)


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture with something to see, (H, W, 3) uint8: noise of a few pixels' size, in colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3)).astype(np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


# ── geometry ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [32, 16, 50])
def test_crops_are_those_of_pillow(size: int) -> None:
    """Enlarged, shrunk with its smoothing, mirrored; from 40 × 60 pixels."""
    picture = smooth(40, 60)
    boxes = torch.tensor([[0, 0, 40, 60], [3, 5, 20, 27], [39, 59, 1, 1], [10, 0, 8, 40], [0, 12, 37, 7]])
    flip = torch.tensor([False, True, False, True, True])
    images = torch.from_numpy(picture).permute(2, 0, 1).float().div(255).expand(5, -1, -1, -1)
    windows = torch.cat([boxes.T, torch.full((2, 5), size), torch.zeros(2, 5, dtype=torch.long)]).float()
    ours = resample(images, windows, size, flip)
    for mine, box, mirrored in zip(ours, boxes.tolist(), flip.tolist(), strict=True):
        theirs = F.resized_crop(Image.fromarray(picture), *box, [size, size], InterpolationMode.BICUBIC)
        theirs = F.to_tensor(F.hflip(theirs) if mirrored else theirs)
        # Pillow rounds to whole steps after each of its two passes.
        torch.testing.assert_close(mine, theirs, atol=2.1 / 255, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 60), (61, 33), (20, 90), (90, 70), (4000, 3)])
def test_without_chance_it_is_the_pipelines_resize_and_centre_crop(height: int, width: int) -> None:
    picture = smooth(height, width)
    (ours,) = views([STILL], statistics=PLAIN)(torch.from_numpy(picture).permute(2, 0, 1)[None], torch.arange(1), 0)
    theirs = build_view(STILL, *PLAIN)(Image.fromarray(picture))
    torch.testing.assert_close(ours[0], theirs, atol=2.1 / 255, rtol=0)


@pytest.mark.parametrize("size", [100, 60, 150])
def test_crops_of_large_images_are_those_of_pillow(size: int) -> None:
    """Cut out one by one; the centre, too, which is not the whole of what is resized."""
    picture = smooth(120, 90)
    image = torch.from_numpy(picture).permute(2, 0, 1)
    boxes = np.array([[0, 0, 120, 90], [3, 5, 20, 27], [119, 89, 1, 1], [10, 0, 8, 80], [0, 12, 77, 7]])
    flip = np.array([False, True, False, True, True])
    windows = np.concatenate([boxes.T, np.full((2, 5), size), np.zeros((2, 5), int)])
    ours = resample_each([image] * 5, windows, size, flip)
    for mine, box, mirrored in zip(ours, boxes.tolist(), flip.tolist(), strict=True):
        theirs = F.resized_crop(Image.fromarray(picture), *box, [size, size], InterpolationMode.BICUBIC)
        theirs = F.to_tensor(F.hflip(theirs) if mirrored else theirs)
        torch.testing.assert_close(mine, theirs, atol=2.1 / 255, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 64), (200, 10)])
def test_boxes_are_those_of_a_slow_loop(height: int, width: int) -> None:
    draws = np.random.default_rng(1).random((22, 200))
    heights, widths = np.full(200, height), np.full(200, width)
    ours = random_boxes(draws, 0.08, 1.0, heights, widths)
    for i in range(200):
        for attempt in range(10):
            area = (0.08 + 0.92 * draws[attempt, i]) * height * width
            aspect = math.exp(math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * draws[10 + attempt, i])
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                box = [int(draws[20, i] * (height - h + 1)), int(draws[21, i] * (width - w + 1)), h, w]
                break
        else:
            # As torchvision: the whole image, or its centre in the nearest shape that is allowed.
            w, h = min(width, round(height * 4 / 3)), min(height, round(width / (3 / 4)))
            box = [(height - h) // 2, (width - w) // 2, h, w]
        assert ours[:, i].tolist() == box


def test_images_of_different_sizes_in_one_batch() -> None:
    sizes = [(40, 60), (32, 32), (80, 93)]
    pictures = [torch.from_numpy(smooth(height, width)).permute(2, 0, 1) for height, width in sizes]
    entries = [{**RELA_VIEW, "crop_size": 24, "num_crops": 2}, {**STILL, "crop_size": 16}]
    together = views(entries)(pictures, torch.arange(3), 1)
    for i, picture in enumerate(pictures):
        alone = views(entries)(picture[None], torch.tensor([i]), 1)
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[i], b[0], atol=1e-5, rtol=1e-5)


# ── chance ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_seed_epoch_and_index_decide_and_nothing_else(pixels: torch.Tensor) -> None:
    entries = [{**RELA_VIEW, "crop_size": 32, "gaussian_blur": {"prob": 0.5}, "num_crops": 2}]
    indices = torch.arange(100, 164)
    first, second = views(entries)(pixels, indices, epoch=3)
    assert not torch.equal(first, second), "two views of one image differ"
    some = torch.tensor([40, 7, 21])
    for a, b in zip((first, second), views(entries)(pixels[some], indices[some], epoch=3), strict=True):
        torch.testing.assert_close(a[some], b, atol=1e-5, rtol=1e-5)
    for other in (
        views(entries, seed=1)(pixels, indices, epoch=3),
        views(entries)(pixels, indices, epoch=4),
        views(entries)(pixels, indices + 1, epoch=3),
    ):
        assert ((other[0] - first).abs().amax((1, 2, 3)) > 1e-3).all()


def test_half_precision_around_it_changes_nothing(pixels: torch.Tensor) -> None:
    entries = [{**RELA_VIEW, "crop_size": 32, "num_crops": 2}]
    with torch.autocast("cpu", torch.bfloat16):
        inside = views(entries)(pixels, torch.arange(64), 0)
    assert torch.equal(inside[0], views(entries)(pixels, torch.arange(64), 0)[0])


def test_one_change_more_leaves_the_others_alone(pixels: torch.Tensor) -> None:
    entry = {"rrc": CROP, "crop_size": 32, "horizontal_flip": {"prob": 0.5}}
    (plain,) = views([entry])(pixels, torch.arange(64), 0)
    (more,) = views([{**entry, "solarization": {"prob": 0.3}}])(pixels, torch.arange(64), 0)
    same = (plain - more).abs().amax((1, 2, 3)) < 1e-6
    assert 32 < int(same.sum()) < 58, "about 70 % of 64"


@pytest.mark.parametrize(
    "change",
    [
        {"horizontal_flip": {"prob": 0.5}},
        {"grayscale": {"prob": 0.5}},
        {"solarization": {"prob": 0.5}},
        {"gaussian_blur": {"prob": 0.5}},
        {"equalization": {"prob": 0.5}},
        {"color_jitter": {**JITTER, "prob": 0.5}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_chance_is_each_images_own(pixels: torch.Tensor, change: dict[str, Any]) -> None:
    (out,) = views([{**STILL, **change}], seed=3)(pixels, torch.arange(64), 0)
    touched = (out - normalised(pixels)).abs().amax((1, 2, 3)) > 1e-3
    assert 16 < int(touched.sum()) < 48, "about half of 64"


def test_factors_differ_from_image_to_image() -> None:
    pixels = torch.full((32, 3, 32, 32), 100, dtype=torch.uint8)
    jitter = {"prob": 1.0, "brightness": 0.5, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    (out,) = views([{**STILL, "color_jitter": jitter}], statistics=PLAIN)(pixels, torch.arange(32), 0)
    factors = out[:, 0, 0, 0] * 255 / 100
    assert len(factors.unique()) == 32
    assert 0.5 <= float(factors.min()) < 0.65
    assert 1.35 < float(factors.max()) <= 1.5


def test_strengths_may_be_ranges() -> None:
    pixels = torch.full((32, 3, 32, 32), 100, dtype=torch.uint8)
    jitter = {"prob": 1.0, "brightness": [1.2, 1.4], "contrast": 0, "saturation": [1, 1], "hue": [0.0, 0.0]}
    (out,) = views([{**STILL, "color_jitter": jitter}], statistics=PLAIN)(pixels, torch.arange(32), 0)
    factors = out[:, 0, 0, 0] * 255 / 100
    assert 1.2 <= float(factors.min()) < 1.23
    assert 1.37 < float(factors.max()) <= 1.4


def test_views_keep_their_own_description(pixels: torch.Tensor) -> None:
    entries = [STILL, {**STILL, "crop_size": 16, "num_crops": 2}, {**STILL, "solarization": {"prob": 1.0}}]
    large, *small, solarised = views(entries)(pixels, torch.arange(64), 0)
    torch.testing.assert_close(large, normalised(pixels), atol=1e-5, rtol=1e-5)
    assert [view.shape for view in small] == [(64, 3, 16, 16)] * 2
    assert ((solarised - large).abs().amax((1, 2, 3)) > 0.1).all()
    assert all(view.is_contiguous(memory_format=torch.channels_last) for view in (large, *small, solarised))


# ── distribution ──────────────────────────────────────────────────────────────────────────────────────────────────────

CASES = {
    "crop": [{"rrc": CROP, "crop_size": 32}],
    "crop and shrink": [{"rrc": {**CROP, "crop_min_scale": 0.08}, "crop_size": 12, "horizontal_flip": {"prob": 0.5}}],
    "jitter": [{**STILL, "color_jitter": {**JITTER, "prob": 1.0, "brightness": 0.8, "contrast": 0.8, "hue": 0.2}}],
    "flip": [{**STILL, "horizontal_flip": {"prob": 0.3}}],
    "large picture": [{**RELA_VIEW, "crop_size": 68}, {"rrc": {**CROP, "crop_min_scale": 0.08}, "crop_size": 32}],
    "blur and grey": [{**STILL, "gaussian_blur": {"prob": 0.7}, "grayscale": {"prob": 0.3}}],
    "equalise and solarise": [{**STILL, "equalization": {"prob": 0.4}, "solarization": {"prob": 0.3}}],
    "accelerated stage": [{**RELA_VIEW, "crop_size": 32}],
    "asymmetric": "asymmetric",
}


def _figures(view: torch.Tensor) -> dict[str, torch.Tensor]:
    """What tells distributions of views (N, 3, H, W) apart: light, contrast, colour, detail, which side is which."""
    half = view.shape[-1] // 2
    red, green, blue = view.mean((2, 3)).unbind(1)
    return {
        "mean": view.mean((1, 2, 3)),
        "contrast": view.std((1, 2, 3)),
        "red against green": red - green,
        "blue against green": blue - green,
        "detail": view.diff(dim=3).abs().mean((1, 2, 3)),
        "left against right": view[..., :half].mean((1, 2, 3)) - view[..., half:].mean((1, 2, 3)),
        "top against bottom": view[..., :half, :].mean((1, 2, 3)) - view[..., half:, :].mean((1, 2, 3)),
    }


@pytest.mark.parametrize("case", CASES)
def test_the_distribution_is_that_of_the_pipeline(case: str) -> None:
    """Kolmogorov and Smirnov find no difference between 1,000 views of one picture made either way."""
    from scipy.stats import ks_2samp

    entries = CASES[case]
    if isinstance(entries, str):
        folder = Path(__file__).resolve().parents[2] / "rela_zoo" / "conf" / "augmentations"
        text = (folder / f"{entries}.yaml").read_text(encoding="utf-8")
        entries = yaml.safe_load(text.replace("${oc.select:image_size,auto}", "32"))
    picture, count = smooth(96, 80, seed=5) if case == "large picture" else smooth(32, 40, seed=5), 1000
    pixels = torch.from_numpy(picture).permute(2, 0, 1).expand(count, -1, -1, -1)
    ours = views(entries, seed=7, statistics=PLAIN)(pixels, torch.arange(count), 2)
    torch.manual_seed(0)
    for entry, mine in zip(entries, ours, strict=True):
        pipeline = build_view(entry, *PLAIN)
        theirs = torch.stack([pipeline(Image.fromarray(picture)) for _ in range(count)])
        for name, figure in _figures(theirs).items():
            # Where chance picks between few values, rounding is no difference.
            a, b = (np.round(values.double().numpy(), 2) for values in (figure, _figures(mine)[name]))
            assert ks_2samp(a, b, method="asymp").pvalue > 1e-4, (
                f"{name}: {a.mean():.3f} ± {a.std():.3f}, {b.mean():.3f} ± {b.std():.3f}"
            )


def test_every_order_of_a_jitter_is_as_frequent_as_in_the_pipeline() -> None:
    """Of fixed strengths what a picture becomes depends on the order alone; which came is known by the nearest."""
    from scipy.stats import chi2_contingency

    strengths = {"brightness": 1.7, "contrast": 0.4, "saturation": 0.2, "hue": 0.3}
    adjust = [getattr(F, f"adjust_{name}") for name in strengths]
    entry = {**STILL, "color_jitter": {"prob": 1.0, **{name: [value] * 2 for name, value in strengths.items()}}}
    picture, count = smooth(32, 32, seed=5), 1000
    outcomes = []
    for order in itertools.permutations(range(4)):
        image = Image.fromarray(picture)
        for change in order:
            image = adjust[change](image, [*strengths.values()][change])
        outcomes.append(F.to_tensor(image).flatten())
    possible = torch.stack(outcomes)
    # Some orders come to nearly the same.
    alike = (torch.cdist(possible, possible, 1) / possible.shape[1] < 3 / 255).int().argmax(1)
    (ours,) = views([entry], seed=7, statistics=PLAIN)(
        torch.from_numpy(picture).permute(2, 0, 1).expand(count, -1, -1, -1), torch.arange(count), 2
    )
    torch.manual_seed(0)
    pipeline = build_view(entry, *PLAIN)
    theirs = torch.stack([pipeline(Image.fromarray(picture)) for _ in range(count)])
    counts = []
    for made in (ours, theirs):
        distance = torch.cdist(made.flatten(1), possible, 1) / possible.shape[1]
        assert float(distance.amin(1).max()) < 2 / 255
        counts.append(alike[distance.argmin(1)].bincount(minlength=24))
    table = torch.stack(counts)
    table = table[:, table.sum(0) > 0].numpy()
    assert table.shape[1] >= 6
    assert chi2_contingency(table).pvalue > 1e-4, table


def test_the_comparison_of_distributions_sees_small_differences() -> None:
    from scipy.stats import ks_2samp

    picture = torch.from_numpy(smooth(32, 40, seed=5)).permute(2, 0, 1).expand(1000, -1, -1, -1)
    made = [
        views([{"rrc": {**CROP, "crop_min_scale": low}, "crop_size": 32}], seed=seed)(picture, torch.arange(1000), 0)[0]
        for seed, low in ((0, 0.2), (1, 0.3))
    ]
    a, b = (_figures(view)["detail"] for view in made)
    assert ks_2samp(a, b, method="asymp").pvalue < 1e-4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("sizes", ["one size", "several sizes"])
def test_a_gpu_makes_the_same_views_without_waiting(pixels: torch.Tensor, sizes: str) -> None:
    entries = [
        {**RELA_VIEW, "crop_size": 32, "gaussian_blur": {"prob": 0.5}, "num_crops": 2},
        {"rrc": CROP, "color_jitter": JITTER, "solarization": {"prob": 0.5}, "crop_size": 16, "num_crops": 1},
    ]
    here: Any = pixels
    if sizes == "several sizes":
        here = [one[:, : 20 + i % 13, : 32 - i % 7] for i, one in enumerate(pixels)]
    there = [one.cuda() for one in here] if isinstance(here, list) else here.cuda()
    maker = views(entries)
    maker(there, torch.arange(64), 0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        ours = maker(there, torch.arange(64), 1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for a, b in zip(ours, views(entries)(here, torch.arange(64), 1), strict=True):
        # Where a pixel lies on the edge of a rule (solarise, round), one of many may fall on the other side.
        assert float(((a.cpu() - b).abs() < 1e-3).float().mean()) > 0.999
