"""Whether another JPEG decoder may take Pillow's place: speed, difference of pixels, difference of rows.

    python scripts/bench/bench_decode.py [--images 128] [--prior NAME] [--out FILE.json]

Photographs of 500 × 375 and 2000 × 1500, 4:2:0 and 4:4:4, are decoded by Pillow, by Pillow's draft mode (which decodes
at a half, a quarter or an eighth where that is still larger than what is wanted), by `torchvision.io` and, where it is
installed, by simplejpeg; then all are resized by Pillow to the prior's input. Differences are those to Pillow: of the
pixels in their standard deviations, of the prior's rows as cosine. A decoder whose pixels are not identical is another
recipe: rows of it are not rows of the artefacts that exist. Where a GPU resizes, pixels are wanted in an array and not
in an image of Pillow's: `array` has the time until they are there by Pillow, by `decode_pixels`, and their ratio.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import io
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _home  # noqa: F401  (first)
import numpy as np
import torch
from _results import write_results
from PIL import Image

from rela_zoo import load_prior
from rela_zoo._io.memory import keep_freed_memory
from rela_zoo.data import decode, decode_pixels

Decoder = Callable[[bytes], Image.Image]


def photographs(count: int, width: int, height: int, subsampling: int) -> list[bytes]:
    """JPEG files of smooth fields, edges and some noise."""
    rng, found = np.random.default_rng(0), []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (height // 50 + 2, width // 50 + 2, 3), dtype=np.uint8))
        smooth = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
        left, top = int(rng.integers(width // 2)), int(rng.integers(height // 2))
        smooth[top : top + height // 3, left : left + width // 3] = rng.integers(0, 256, 3)
        noisy = (smooth + rng.normal(0, 6, (height, width, 1)).astype(np.int16)).clip(0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noisy).save(buffer, "JPEG", quality=90, subsampling=subsampling)
        found.append(buffer.getvalue())
    return found


def decoders(size: int) -> dict[str, Decoder]:
    """By name; `size`: of the shorter side that is wanted."""
    from torchvision.io import ImageReadMode, decode_jpeg

    def pillow(raw: bytes) -> Image.Image:
        return Image.open(io.BytesIO(raw)).convert("RGB")

    def draft(raw: bytes) -> Image.Image:
        image = Image.open(io.BytesIO(raw))
        image.draft("RGB", (size, size))
        return image.convert("RGB")

    def torchvision(raw: bytes) -> Image.Image:
        pixels = decode_jpeg(torch.frombuffer(bytearray(raw), dtype=torch.uint8), ImageReadMode.RGB)
        return Image.fromarray(pixels.permute(1, 2, 0).numpy())

    found: dict[str, Decoder] = {"Pillow": pillow, "Pillow, draft": draft, "torchvision.io": torchvision}
    try:
        import simplejpeg
    except ImportError:
        return found
    for fast in (False, True):
        name = f"simplejpeg{', fast' if fast else ''}"
        found[name] = lambda raw, fast=fast: Image.fromarray(  # type: ignore[misc]
            simplejpeg.decode_jpeg(raw, "RGB", fastdct=fast, fastupsample=fast)
        )
    return found


def milliseconds(work: Callable[[], Any], count: int, repeats: int) -> float:
    """Of the processor, an item; median over repeats."""
    found = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        found.append(1e3 * (time.process_time() - started) / count)
    return statistics.median(found)


@torch.inference_mode()
def compare(raws: list[bytes], prior: Any, repeats: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    wanted: dict[str, Any] = {}
    ways = decoders(prior.transform.preprocessing.resize)
    images = {name: [way(raw) for raw in raws] for name, way in ways.items()}
    decoding: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):  # by turns
        for name, way in ways.items():
            decoding[name].append(milliseconds(lambda way=way: [way(raw) for raw in raws], len(raws), 1))
    for name in ways:
        pixels = torch.stack([prior.transform.pixels(image) for image in images[name]])
        rows = torch.cat([prior(prior.transform.normalise(part)) for part in pixels.split(32)])
        if not wanted:
            wanted = {
                "pixels": pixels.float(),
                "rows": rows,
                "whole": [np.asarray(one, np.int16) for one in images[name]],
            }
        whole = [
            float(np.abs(np.asarray(one, np.int16) - other).max()) if one.size == other.shape[1::-1] else None
            for one, other in zip(images[name], wanted["whole"], strict=True)
        ]
        cosine = torch.nn.functional.cosine_similarity(rows.double(), wanted["rows"].double())
        found[name] = {
            "decode_ms": round(statistics.median(decoding[name]), 3),
            "resize_ms": round(
                milliseconds(
                    lambda name=name: [prior.transform.pixels(one) for one in images[name]], len(raws), repeats
                ),
                3,
            ),
            "largest_difference_decoded": None if None in whole else max(whole),
            "difference_resized_in_sigma": float((pixels.float() - wanted["pixels"]).std() / wanted["pixels"].std()),
            "cosine_of_rows": {"mean": float(cosine.mean()), "smallest": float(cosine.min())},
            "identical": bool((pixels.float() == wanted["pixels"]).all()) and None not in whole and not any(whole),
        }
    return found


def in_array(raws: list[bytes], repeats: int) -> dict[str, Any]:
    """Milliseconds of the processor until the pixels lie in an array, as medians; and their ratio with its range."""
    ways: dict[str, Callable[[bytes], Any]] = {
        "Pillow": lambda raw: np.asarray(decode(raw, "")),
        "decode_pixels": lambda raw: decode_pixels(raw, "", lambda height, width: True),
    }
    turns = []
    for _ in range(repeats):
        turns.append(
            {n: milliseconds(lambda way=way: [way(raw) for raw in raws], len(raws), 1) for n, way in ways.items()}
        )
    ratios = [turn["decode_pixels"] / turn["Pillow"] for turn in turns]
    return {
        **{f"{name}_ms": round(statistics.median(turn[name] for turn in turns), 3) for name in ways},
        "ratio": [round(one, 3) for one in (statistics.median(ratios), min(ratios), max(ratios))],
    }


def main(args: argparse.Namespace) -> None:
    from PIL import features

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)  # more would only wait, and their waiting counts
    keep_freed_memory()  # as in `embed`
    prior = load_prior(args.prior)
    results: dict[str, Any] = {"prior": args.prior, "files": {}}
    for width, height, count in ((500, 375, args.images), (2000, 1500, max(8, args.images // 8))):
        for subsampling, label in ((2, "4:2:0"), (0, "4:4:4")):
            raws = photographs(count, width, height, subsampling)
            name = f"{width} × {height}, {label}"
            found = compare(raws, prior, args.repeats)
            array = in_array(raws, args.repeats)
            size = round(sum(map(len, raws)) / count)
            results["files"][name] = {"count": count, "mean_bytes": size, "array": array, **found}
            print(f"{name}, {sum(map(len, raws)) // count:,} bytes")
            for way, one in found.items():
                cosine = one["cosine_of_rows"]["smallest"]
                print(
                    f"  {way:<18} decode {one['decode_ms']:7.2f} ms, resize {one['resize_ms']:6.2f} ms, "
                    f"{one['difference_resized_in_sigma']:.4f} σ, cosine of rows ≥ {cosine:.5f}"
                    f"{', identical' if one['identical'] else ''}"
                )
            print(f"  into an array: Pillow {array['Pillow_ms']} ms, decode_pixels {array['decode_pixels_ms']} ms")
    versions = {"pillow": Image.__version__, "libjpeg_turbo": features.version("libjpeg_turbo")}  # type: ignore[attr-defined]
    if importlib.util.find_spec("simplejpeg"):
        versions["simplejpeg"] = importlib.metadata.version("simplejpeg")
    write_results(results, args.out, **versions)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--prior", default="imagenet1k-efficientnet-lite0")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    main(parser.parse_args())
