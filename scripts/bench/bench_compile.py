"""What torch's compiler makes of a prior: how much faster, after how long, and how far its rows move.

    python scripts/bench/bench_compile.py [--device cuda] [--prior NAME …] [--rounds 7] [--out FILE.json]

The prior as it is and compiled as `embed` does it embed batches of random numbers that are on the device already, by
turns. Compiling is timed with an empty cache. `pays_from` is how many images it takes until that is saved.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import _home  # noqa: F401  (first)
import torch
from _results import write_results

from rela_zoo import load_prior
from rela_zoo.embeddings import Compiled, agreement

PRIORS = [
    "cifar10-resnet20", "imagenet1k-efficientnet-lite0", "random-resnet18", "random-resnet50", "random-convnext_tiny",
    "random-vit_small_patch16_224",
]  # fmt: skip
BATCH = {"cpu": 32, "cuda": 256}


@torch.inference_mode()
def measure(name: str, device: torch.device, rounds: int) -> dict[str, Any]:
    prior = load_prior(name, device=device)
    side, size = prior.transform.preprocessing.input_size, BATCH[device.type]
    images = torch.randn(size, 3, side, side, device=device)
    compiled = Compiled(size)
    rows = compiled(prior, images)
    if not compiled.works:
        return {"works": False}
    near = agreement(rows.cpu(), prior(images).cpu())
    calls = 1 if device.type == "cpu" and side > 64 else 20
    turns = []
    for _ in range(rounds):
        turn = []
        for way in (lambda: prior(images), lambda: compiled(prior, images)):
            started = time.perf_counter()
            for _ in range(calls):
                way()
            if device.type == "cuda":
                torch.cuda.synchronize()
            turn.append((time.perf_counter() - started) / calls / size)
        turns.append(turn)
    ratios = [plain / fast for plain, fast in turns]
    plain, fast = (statistics.median(turn[way] for turn in turns) for way in (0, 1))
    return {
        "works": True,
        "ms_an_image": {"plain": round(1e3 * plain, 4), "compiled": round(1e3 * fast, 4)},
        "speedup": [round(one, 3) for one in (statistics.median(ratios), min(ratios), max(ratios))],
        "compile_s": round(compiled.seconds, 1),
        "pays_from": None if fast >= plain else round(compiled.seconds / (plain - fast)),
        "rows": {"smallest_cosine": near.cosine, "largest_difference": near.difference},
    }


def main(args: argparse.Namespace) -> None:
    warnings.filterwarnings("ignore")
    results: dict[str, Any] = {"priors": {}}
    for name in args.prior or PRIORS:
        with tempfile.TemporaryDirectory() as cache:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
            torch.compiler.reset()
            found = results["priors"][name] = measure(name, torch.device(args.device), args.rounds)
        if found["works"]:
            speed = "{:.2f} ({:.2f}–{:.2f})".format(*found["speedup"])
            print(
                f"{name:<32} {speed} times as fast after {found['compile_s']} s, which {found['pays_from']} images "
                f"save; rows moved by {found['rows']['largest_difference']:.1e}", flush=True,
            )  # fmt: skip
        else:
            print(f"{name:<32} not compiled", flush=True)
    write_results(results, args.out, device=args.device)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--prior", nargs="+")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    main(parser.parse_args())
