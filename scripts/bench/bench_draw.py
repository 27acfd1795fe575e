"""Time the draw of one epoch at the size of ImageNet-1K, for every policy, against a bare permutation.

    python scripts/bench/bench_draw.py --out scripts/bench/results/draw.json

1,281,167 samples, a fifth of them in an epoch. Clusters, groups and losses are made up, of the sizes that the real
ones have (see bench_selection.py): what a draw costs depends on their sizes alone. Each policy is measured in a process
of its own; its peak is the kernel's VmHWM, libraries included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import write_results
from bench_embeddings import peak_mib

from rela_zoo.selection import build_subset, parse_selection

ROWS, RATIO, ROUNDS = 1_281_167, 0.2, 5
POLICIES = ("uniform", "balanced", "coverage", "dedup", "prototypical", "hard", "loss", "curriculum")


class MadeUp:
    """A space of random answers."""

    def __init__(self, n: int) -> None:
        self._n, self._draws = n, np.random.default_rng(0)

    def clusters(self, count: int | None, dims: int) -> tuple[np.ndarray, np.ndarray]:
        # Sizes of clusters differ: squares of uniform numbers fall upon the first ones more often.
        labels = (self._draws.random(self._n) ** 2 * 1132).astype(np.int32)
        return labels, self._draws.random(self._n).astype(np.float32)

    def cells(self, count: int, dims: int) -> np.ndarray:
        return (self._draws.random(self._n) ** 2 * 4096).astype(np.int32)

    def duplicates(self, threshold: float, clusters: int | None, dims: int) -> np.ndarray:
        groups = np.arange(self._n, dtype=np.int32)
        copies = self._draws.choice(self._n, self._n // 50, replace=False)
        groups[copies] = groups[self._draws.integers(0, self._n, len(copies))]
        return groups


def measure(policy: str, n: int) -> dict[str, Any]:
    """Seconds to build the policy from its geometry, and of one epoch's draw."""
    config, _ = parse_selection(policy, RATIO)
    space, before = MadeUp(n), peak_mib()
    started = time.perf_counter()
    subset = build_subset(config, n=n, ratio=RATIO, seed=0, epochs=100, space=space)
    built = time.perf_counter() - started
    if subset.losses is not None:
        subset.losses.observe(torch.arange(n), torch.rand(n))
        subset.losses.end_epoch(lambda sums: sums)
    draws, bare = [], []
    for epoch in range(ROUNDS):
        started = time.perf_counter()
        drawn = subset.draw(epoch)
        draws.append(time.perf_counter() - started)
        started = time.perf_counter()
        np.random.default_rng(epoch).permutation(n)
        bare.append(time.perf_counter() - started)
    assert len(drawn.indices.unique()) == int(RATIO * n)
    return {
        "build_seconds": round(built, 2),
        "draw_seconds": round(statistics.median(draws), 3),
        "draw_over_permutation": round(statistics.median(a / b for a, b in zip(draws, bare, strict=True)), 1),
        "peak_rss_mib": round(peak_mib()),
        "rss_before_mib": round(before),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--policy", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.policy is not None:
        print(json.dumps(measure(arguments.policy, arguments.rows)))
        return
    found = {}
    for policy in POLICIES:
        command = [sys.executable, __file__, "--policy", policy, "--rows", str(arguments.rows)]
        found[policy] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        print(policy, found[policy], file=sys.stderr, flush=True)
    result: dict[str, Any] = {
        "command": "python scripts/bench/bench_draw.py",
        "rows": arguments.rows,
        "data_ratio": RATIO,
        "rounds": ROUNDS,
        "policies": found,
    }
    print(write_results(result, arguments.out), end="")


if __name__ == "__main__":
    main()
