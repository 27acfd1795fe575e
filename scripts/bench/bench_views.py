"""What the two random views of an image cost: this package's batch views against kornia, torchvision and Pillow.

    python scripts/bench/bench_views.py [--device cuda] [--rounds 5] [--out FILE.json]

The same recipe everywhere, uint8 images in and normalised float views out, every image with chance of its own:

    batch views     rela_zoo.data.batch_views, of the whole batch (each image with parameters of its own)
    kornia          AugmentationSequential with same_on_batch=False, of the whole batch (left out if not installed)
    torchvision v2  tensors, one image at a time
    Pillow          what workers do: torchvision's transforms of PIL images, one at a time

Two recipes: `milder` (the accelerated stage's) and `BYOL` (its first view: blur always). All run by turns in one
process; on a CPU a time is that of the process, with one thread, on a GPU the clock's with the device waited for; a
ratio is the median over rounds of that within a round, beside its smallest and largest. kornia's crops don't smooth
what they shrink, and its jitter has one order for a whole batch: it has less to do.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import relative, write_results
from PIL import Image
from torchvision.transforms import v2

from rela_zoo.data.batch_views import BatchViews
from rela_zoo.data.views import RELA_VIEW, build_views

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CROP = {"enabled": True, "crop_min_scale": 0.2, "crop_max_scale": 1.0}
RECIPES: dict[str, dict[str, Any]] = {
    "milder": RELA_VIEW,
    "BYOL": {
        "rrc": CROP,
        "color_jitter": {"prob": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1},
        "grayscale": {"prob": 0.2},
        "gaussian_blur": {"prob": 1.0},
        "horizontal_flip": {"prob": 0.5},
    },
}
# Side of the image, of the view, and images in a batch.
SIZES = {"32 px": (32, 32, 64), "224 px": (288, 224, 16)}
_ON_GPU = 256


def _strengths(entry: dict[str, Any]) -> list[float]:
    return [entry["color_jitter"][name] for name in ("brightness", "contrast", "saturation", "hue")]


def batch_views(entry: dict[str, Any], pixels: torch.Tensor, size: int) -> Callable[[], Any]:
    """This package's."""
    maker = BatchViews([{**entry, "crop_size": size, "num_crops": 2}], MEAN, STD, seed=0)
    indices, epochs = torch.arange(len(pixels)), iter(range(1 << 30))
    return lambda: maker(pixels, indices, next(epochs))


def kornia_views(entry: dict[str, Any], pixels: torch.Tensor, size: int) -> Callable[[], Any] | None:
    """kornia's, or None where it is not installed."""
    try:
        import kornia.augmentation as K
    except ImportError:
        return None
    crop = entry["rrc"]
    scale = (crop["crop_min_scale"], crop["crop_max_scale"])
    parts = [
        K.RandomResizedCrop((size, size), scale=scale, resample="bicubic", cropping_mode="resample"),
        K.ColorJitter(*_strengths(entry), p=entry["color_jitter"]["prob"]),
        K.RandomGrayscale(p=entry["grayscale"]["prob"]),
    ]
    if (chance := entry["gaussian_blur"]["prob"]) > 0:
        parts.append(K.RandomGaussianBlur((13, 13), (0.1, 2.0), p=chance))
    parts += [K.RandomHorizontalFlip(p=0.5), K.Normalize(torch.tensor(MEAN), torch.tensor(STD))]
    pipeline = K.AugmentationSequential(*parts, same_on_batch=False)

    @torch.no_grad()
    def make() -> Any:
        images = pixels.float().div(255)
        return [pipeline(images) for _ in range(2)]

    return make


def torchvision_views(entry: dict[str, Any], pixels: torch.Tensor, size: int) -> Callable[[], Any]:
    """torchvision's second edition, on tensors."""
    crop = entry["rrc"]
    scale, bicubic = (crop["crop_min_scale"], crop["crop_max_scale"]), v2.InterpolationMode.BICUBIC
    parts: list[Any] = [
        v2.RandomResizedCrop(size, scale=scale, interpolation=bicubic, antialias=True),
        v2.RandomApply([v2.ColorJitter(*_strengths(entry))], p=entry["color_jitter"]["prob"]),
        v2.RandomGrayscale(p=entry["grayscale"]["prob"]),
    ]
    if (chance := entry["gaussian_blur"]["prob"]) > 0:
        parts.append(v2.RandomApply([v2.GaussianBlur(13, (0.1, 2.0))], p=chance))
    parts += [v2.RandomHorizontalFlip(0.5), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    pipeline = v2.Compose(parts)
    images = list(pixels)
    return lambda: [torch.stack([pipeline(image) for image in images]) for _ in range(2)]


def pillow_views(entry: dict[str, Any], pixels: torch.Tensor, size: int) -> Callable[[], Any]:
    """What workers do."""
    pipeline = build_views([{**entry, "crop_size": size, "num_crops": 2}], MEAN, STD)
    images = [Image.fromarray(one) for one in pixels.cpu().permute(0, 2, 3, 1).contiguous().numpy()]
    return lambda: [torch.stack(views) for views in zip(*map(pipeline, images), strict=True)]


MAKERS: dict[str, Callable[..., Callable[[], Any] | None]] = {
    "batch views": batch_views,
    "kornia": kornia_views,
    "torchvision v2": torchvision_views,
    "Pillow": pillow_views,
}


def pictures(count: int, side: int) -> torch.Tensor:
    """(count, 3, side, side) uint8 with something to see, channels last: noise of an eighth's size."""
    generator, made = np.random.default_rng(0), []
    for _ in range(count):
        coarse = generator.integers(0, 256, (side // 8, side // 8, 3)).astype(np.uint8)
        made.append(np.array(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)))
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2)


def timed(make: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Seconds of one call."""
    on_gpu = device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize(device)
    started = clock()
    for _ in range(repeats):
        make()
    if on_gpu:
        torch.cuda.synchronize(device)
    return (clock() - started) / repeats


def measure(recipe: str, setting: str, device: torch.device, rounds: int, repeats: int) -> list[dict[str, Any]]:
    """A row for each maker."""
    side, size, batch = SIZES[setting]
    batch = batch if device.type == "cpu" else _ON_GPU
    pixels = pictures(batch, side).to(device)
    makers = {name: make(RECIPES[recipe], pixels, size) for name, make in MAKERS.items()}
    known = {name: make for name, make in makers.items() if make is not None}
    seconds: dict[str, list[float]] = {name: [] for name in known}
    for make in known.values():
        make()
    for turn in range(rounds):
        for name in list(known)[:: 1 if turn % 2 == 0 else -1]:
            seconds[name].append(timed(known[name], device, repeats))
    rows = []
    for name, mine in seconds.items():
        rows.append(
            {
                "recipe": recipe,
                "setting": setting,
                "batch": batch,
                "made_by": name,
                "ms_per_image": round(1e3 * statistics.median(mine) / batch, 4),
                **relative(mine, seconds["batch views"]),
            }
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=4, help="calls timed in a round")
    parser.add_argument("--only", choices=SIZES, default=None)
    parser.add_argument("--out", type=Path, default=None, help="JSON file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    rows: list[dict[str, Any]] = []
    for setting in [arguments.only] if arguments.only else SIZES:
        for recipe in RECIPES:
            found = measure(recipe, setting, device, arguments.rounds, arguments.repeats)
            rows += found
            for row in found:
                print(
                    f"{setting:7s} {recipe:7s} {row['made_by']:15s} {row['ms_per_image']:8.3f} ms an image, "
                    f"{row['relative']:6.2f} × batch views ({row['relative_min']:.2f}–{row['relative_max']:.2f})"
                )
    facts: dict[str, Any] = {"threads": 1, "device": arguments.device, "kornia": _version()}
    if device.type == "cuda":
        facts["device"] = torch.cuda.get_device_name()
    write_results({"views_of_an_image": 2, "rows": rows}, arguments.out, **facts)


def _version() -> str | None:
    from importlib import metadata

    try:
        return metadata.version("kornia")
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
