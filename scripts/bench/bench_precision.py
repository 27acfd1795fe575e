"""What lower precision does to a prior's rows, and to the targets made of them.

    python scripts/bench/bench_precision.py [--device cuda] [--prior NAME …] [--images 512] [--out FILE.json]

For each prior and precision: the smallest cosine of a row with that of float32, the largest length of a difference as a
part of the row's, the same for the targets (of a transport fitted on rows of its own precision, at most 64 directions),
and images a second. `embed` refuses a precision whose rows are further away than `LEAST_COSINE` and `MOST_DIFFERENCE`
of `rela_zoo.embeddings`.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import _home  # noqa: F401  (first)
import numpy as np
import torch
from _results import write_results
from PIL import Image
from torch import Tensor

from rela_zoo import fit_transport, load_prior
from rela_zoo.embeddings import LEAST_COSINE, MOST_DIFFERENCE, agreement

PRIORS = [
    "cifar10-resnet20", "imagenet1k-efficientnet-lite0", "random-vit_small_patch16_224",
    "random-vit_base_patch16_clip_224", "random-resnet50",
]  # fmt: skip
LOWER = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}


def images(count: int) -> list[Image.Image]:
    rng, found = np.random.default_rng(0), []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((256, 256), Image.Resampling.BICUBIC), np.int16)
        found.append(Image.fromarray((smooth + rng.normal(0, 7, smooth.shape)).clip(0, 255).astype(np.uint8)))
    return found


@torch.inference_mode()
def rows_of(prior: Any, batches: list[Tensor], lower: torch.dtype | None, device: torch.device) -> tuple[Tensor, float]:
    prior.computes_in = lower
    prior(batches[0])
    started = time.perf_counter()
    rows = torch.cat([prior(batch) for batch in batches])
    if device.type == "cuda":
        torch.cuda.synchronize()
    return rows.cpu(), sum(map(len, batches)) / (time.perf_counter() - started)


def main(args: argparse.Namespace) -> None:
    warnings.filterwarnings("ignore")
    device = torch.device(args.device)
    pictures = images(args.images)
    results: dict[str, Any] = {"bound": {"cosine": LEAST_COSINE, "difference": MOST_DIFFERENCE}, "priors": {}}
    for name in args.prior or PRIORS:
        prior = load_prior(name, device=device)
        pixels = torch.stack([prior.transform.pixels(one) for one in pictures])
        batches = [prior.transform.normalise(part.to(device)) for part in pixels.split(32)]
        found: dict[str, Any] = {}
        full, targets = None, None
        for precision in args.precision:
            rows, rate = rows_of(prior, batches, LOWER[precision], device)
            moved = fit_transport(rows, progress=False)(rows, dim=min(64, prior.dim, len(rows) // 2))
            if full is None or targets is None:
                full, targets = rows, moved
            signs = (moved * targets).sum(0).sign()  # a direction is known up to its sign
            near, near_targets = agreement(rows, full), agreement(moved * signs, targets)
            found[precision] = {
                "images_per_second": round(rate, 1),
                "rows": {"smallest_cosine": near.cosine, "largest_difference": near.difference},
                "targets": {"smallest_cosine": near_targets.cosine, "largest_difference": near_targets.difference},
                "taken": near.cosine >= LEAST_COSINE and near.difference <= MOST_DIFFERENCE,
            }
            print(
                f"{name:<36}{precision:<6}{rate:>9,.1f} images/s; rows: cosine ≥ {near.cosine:.6f}, difference ≤ "
                f"{near.difference:.4f}; targets: cosine ≥ {near_targets.cosine:.4f}; "
                f"{'taken' if found[precision]['taken'] else 'refused'}"
            )
        results["priors"][name] = found
    write_results(results, args.out, device=str(device), images=args.images)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--prior", nargs="+")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument(
        "--precision", nargs="+", choices=tuple(LOWER), default=list(LOWER), help="the first is compared with"
    )
    parser.add_argument("--out", type=Path, help="JSON file to write")
    main(parser.parse_args())
