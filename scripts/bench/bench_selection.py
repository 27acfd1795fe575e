"""Time the geometry of a selection at the size of ImageNet-1K: start-up, reopening, memory, against named alternatives.

    python scripts/bench/bench_selection.py --temp DIR --out scripts/bench/results/selection.json

A float16 artefact of 1,281,167 × 512 on disk (1.3 GB in DIR, given back afterwards): a mixture of 1,000 classes, as
wide between as within, whose variances fall as 1/i along the components, with a mean far from zero; 2 % of the rows
are near-duplicates of another, with noise of 5 to 40 % of its length. The data set is a permutation of the table.

Every figure is from a process of its own, which opens the table, reads it from a warm page cache and writes its
file; its peak is the kernel's VmHWM, libraries included. `agreement` asks what the reduction to fewer dimensions
costs: the same functions on all 512, and on 512 with another seed, which is as much as agreement can mean.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from bench_embeddings import peak_mib
from torch import Tensor

from rela_zoo.embeddings import open_embeddings, write_rows
from rela_zoo.selection._assign import assign
from rela_zoo.selection._centres import k_centres
from rela_zoo.selection._clusters import default_clusters, k_means
from rela_zoo.selection._duplicates import near_duplicates
from rela_zoo.selection._geometry import KeyParts, geometry, positions_digest, transport_digest
from rela_zoo.selection._space import principal_points
from rela_zoo.subset import EpochSubset
from rela_zoo.transport import TargetTransport, fit_transport

ROWS, DIM, CLASSES, DUPLICATES = 1_281_167, 512, 1000, 0.02
DIMS, THRESHOLD, SEED = 128, 0.95, 0
BLOCK = 8192
DEVICE = "cuda" if torch.cuda.is_available() else None


def make(folder: Path, rows: int) -> None:
    """The artefact, its transport, and what is true of it: class of each row, (copy, original) pairs."""
    draws = torch.Generator().manual_seed(0)
    spectrum = torch.arange(1, DIM + 1).rsqrt()
    turn = torch.linalg.qr(torch.randn(DIM, DIM, generator=draws))[0] * 3
    classes = torch.randn(CLASSES, DIM, generator=draws) * spectrum
    mean = torch.randn(DIM, generator=draws) * 2
    labels, pairs = [], []

    def blocks() -> Iterator[Tensor]:
        for start in range(0, rows, BLOCK):
            count = min(BLOCK, rows - start)
            label = torch.randint(CLASSES, (count,), generator=draws)
            block = classes[label] + torch.randn(count, DIM, generator=draws) * spectrum
            copies, originals = torch.randperm(count, generator=draws)[: 2 * int(DUPLICATES * count)].view(2, -1)
            noise = torch.randn(len(copies), DIM, generator=draws) * spectrum
            part = 0.05 + 0.35 * torch.rand(len(copies), 1, generator=draws)
            noise *= part * block[originals].norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True)
            block[copies], label[copies] = block[originals] + noise, label[originals]
            labels.append(label)
            pairs.append(torch.stack([copies, originals]) + start)
            yield block @ turn + mean

    ids = [f"n{i % 1000:08d}/n{i % 1000:08d}_{i}.JPEG" for i in range(rows)]
    table = write_rows(folder / "table", blocks(), ids, prior={"id": "random-mixture"})
    fit_transport(table).save(folder / "transport")
    positions = np.random.default_rng(1).permutation(rows)
    index_of = np.argsort(positions)
    np.savez(
        folder / "truth.npz",
        positions=positions,
        labels=torch.cat(labels).numpy()[positions],
        pairs=index_of[torch.cat(pairs, 1).numpy()],
    )


class Inputs:
    """What a run has when it begins: the table, the transport, the join; and the points when asked for."""

    def __init__(self, folder: Path) -> None:
        truth = np.load(folder / "truth.npz")
        self.positions, self.labels, self.pairs = truth["positions"], truth["labels"], truth["pairs"]
        self.table, self.transport = open_embeddings(folder / "table"), TargetTransport.load(folder / "transport")
        self.cells = default_clusters(len(self.table))
        self.points_seconds = 0.0

    def points(self, dims: int = DIMS) -> np.ndarray:
        started = time.perf_counter()
        found = principal_points(self.table, self.positions, self.transport, dims, device=DEVICE)
        self.points_seconds = time.perf_counter() - started
        return found


def measure_geometry(folder: Path, kind: str) -> dict[str, Any]:
    """The whole start-up of a selection, without a file; then again with it."""
    inputs = Inputs(folder)
    cache = Path(tempfile.mkdtemp(dir=folder))
    before, times = peak_mib(), [time.perf_counter()]
    for _ in range(2):
        parts = KeyParts(
            table=inputs.table.digest,
            transport=transport_digest(inputs.transport, DIMS),
            positions=positions_digest(inputs.positions),
            rows=len(inputs.positions),
            dims=DIMS,
            cells=inputs.cells,
            seed=SEED,
            threshold=THRESHOLD if kind == "duplicates" else None,
        )
        found = geometry(kind, points=inputs.points, key_parts=parts, cache=cache, device=DEVICE, say=lambda _: None)  # type: ignore[arg-type]
        times.append(time.perf_counter())
        peak = peak_mib() if len(times) == 2 else peak
    first, again = np.diff(times)
    return {
        "start_up_seconds": round(first, 1),
        "of_which_points_seconds": round(inputs.points_seconds, 1),
        "reopen_ms": round(again * 1e3, 1),
        "peak_rss_mib": round(peak),
        "rss_before_mib": round(before),
        "file_mib": round(sum(path.stat().st_size for path in cache.iterdir()) / 2**20, 1),
        "cells": len(found.centroids),
        "radius": round(float(found.distances.max()), 3),
        **({"groups": int(found.groups.max()) + 1} if found.groups is not None else {}),
    }


def measure_sklearn(folder: Path) -> dict[str, Any]:
    """k-means as one would write it: all rows as float32 in memory, MiniBatchKMeans with its own defaults, predict."""
    from sklearn.cluster import MiniBatchKMeans

    inputs = Inputs(folder)
    started = time.perf_counter()
    rows = np.empty(inputs.table.shape, np.float32)
    for number, piece in enumerate(inputs.table.iter_rows(BLOCK)):
        rows[number * BLOCK : number * BLOCK + len(piece)] = piece.numpy()
    MiniBatchKMeans(inputs.cells, n_init=1, random_state=SEED).fit(rows).predict(rows)
    return {"seconds": round(time.perf_counter() - started, 1), "peak_rss_mib": round(peak_mib())}


def measure_one_by_one(folder: Path, tried: int = 20) -> dict[str, Any]:
    """Centres with one pass each: the time of the passes after the first, extrapolated to all."""
    inputs = Inputs(folder)
    points, times = inputs.points(), []
    for centres in (1, 1 + tried):
        started = time.perf_counter()
        k_centres(points, centres, SEED, device=DEVICE, candidates=1)
        times.append(time.perf_counter() - started)
    return {"measured_centres": tried, "extrapolated_seconds": round((times[1] - times[0]) / tried * inputs.cells)}


def measure_all_pairs(folder: Path, tried: int = 8192) -> dict[str, Any]:
    """Near-duplicates without clusters: cosines of some rows with all, extrapolated to every pair once."""
    points = torch.from_numpy(Inputs(folder).points()).to(DEVICE)
    units = torch.nn.functional.normalize(points, dim=1)
    started = time.perf_counter()
    for block in units[:tried].split(1024):
        for other in units.split(BLOCK):
            (block @ other.T >= THRESHOLD).any(1).cpu()
    seconds = (time.perf_counter() - started) * len(units) / tried / 2
    return {"measured_rows": tried, "extrapolated_seconds": round(seconds)}


def measure_draw(folder: Path) -> dict[str, Any]:
    """One epoch's draw of a fifth, in milliseconds, the median of 5."""
    subset = EpochSubset(len(Inputs(folder).positions), 0.2, SEED)
    times = []
    for epoch in range(5):
        started = time.perf_counter()
        subset.indices(epoch)
        times.append((time.perf_counter() - started) * 1e3)
    return {"EpochSubset, uniform": round(sorted(times)[2], 1)}


def same_pairs(one: np.ndarray, other: np.ndarray) -> float:
    """F1 of two groupings, over the pairs that each puts together."""

    def pairs(*groups: np.ndarray) -> int:
        counts = np.unique(np.stack(groups), axis=1, return_counts=True)[1]
        return int((counts * (counts - 1) // 2).sum())

    return 2 * pairs(one, other) / (pairs(one) + pairs(other))


def measure_agreement(folder: Path) -> dict[str, Any]:
    """What is found in few dimensions beside what is found in all of them, and beside the truth."""
    from sklearn.metrics import normalized_mutual_info_score as shared

    inputs = Inputs(folder)
    full = inputs.points(DIM)
    units = [torch.nn.functional.normalize(torch.from_numpy(full[side]), dim=1) for side in inputs.pairs]
    truly = inputs.pairs[:, ((units[0] * units[1]).sum(1) >= THRESHOLD).numpy()]
    best: dict[str, Any] = {}
    result: dict[str, Any] = {}
    for name, dims, seed in [
        ("512", DIM, SEED),
        ("512, another seed", DIM, 1),
        *((str(d), d, 0) for d in (256, 128, 64, 32)),
    ]:
        points = np.ascontiguousarray(full[:, :dims])
        clusters = k_means(points, inputs.cells, seed, device=DEVICE)
        groups = near_duplicates(points, clusters.labels, THRESHOLD, device=DEVICE)
        centres = k_centres(points, inputs.cells, seed, device=DEVICE).centres
        reach = assign(full, full[centres], DEVICE)[1]
        best = best or {"labels": clusters.labels, "groups": groups, "reach": reach}
        result[name] = {
            "variance_kept": round(sum(inputs.transport.stats.explained_variance_ratio[:dims]), 3),
            "clusters_nmi_with_512": round(shared(best["labels"], clusters.labels), 3),
            "clusters_nmi_with_classes": round(shared(inputs.labels, clusters.labels), 3),
            "planted_pairs_found": round(float((groups[truly[0]] == groups[truly[1]]).mean()), 4),
            "duplicate_pairs_f1_with_512": round(same_pairs(best["groups"], groups), 4),
            "groups": int(groups.max()) + 1,
            "centres_radius_in_512_relative": round(float(reach.max() / best["reach"].max()), 3),
            "centres_mean_distance_in_512_relative": round(float(reach.mean() / best["reach"].mean()), 3),
        }
        print(name, result[name], file=sys.stderr, flush=True)
    return {"planted_pairs_above_threshold": truly.shape[1], "by_dims": result}


MEASURES = {
    "clusters": lambda folder: measure_geometry(folder, "clusters"),
    "centres": lambda folder: measure_geometry(folder, "centres"),
    "duplicates": lambda folder: measure_geometry(folder, "duplicates"),
    "alternative to clusters: MiniBatchKMeans on all rows, fit and predict, 512 dimensions": measure_sklearn,
    "alternative to centres: one pass each, same points": measure_one_by_one,
    "alternative to duplicates: all pairs, same points": measure_all_pairs,
    "draw_ms": measure_draw,
    "agreement": measure_agreement,
}


def main() -> None:
    """Make the artefact, measure each thing in another process, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--temp", type=Path, default=None, help="a folder with room for 1.4 GB")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        print(json.dumps(MEASURES[arguments.measure[0]](Path(arguments.measure[1]))))
        return
    temp = Path(tempfile.mkdtemp(prefix="bench-selection-", dir=arguments.temp))
    found = {}
    try:
        make(temp, arguments.rows)
        for name in MEASURES:
            command = [sys.executable, __file__, "--measure", name, str(temp)]
            found[name] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
            print(name, found[name], file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(temp)
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")
    result: dict[str, Any] = {
        "command": "python scripts/bench/bench_selection.py",
        "rows": arguments.rows,
        "dim": DIM,
        "dtype": "float16",
        "dims": DIMS,
        "cells": default_clusters(arguments.rows),
        "threshold": THRESHOLD,
        "seed": SEED,
        **found,
        "environment": {
            "cpu": f"{cpu}, {os.cpu_count()} cores",
            "gpu": torch.cuda.get_device_name() if DEVICE else None,
            "load_average_at_end": [round(one, 1) for one in os.getloadavg()],
            "platform": platform.platform(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
            "torch_threads": torch.get_num_threads(),
        },
    }
    text = json.dumps(result, indent=2) + "\n"
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
