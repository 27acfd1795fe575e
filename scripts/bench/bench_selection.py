"""Time the geometry of a selection at the size of ImageNet-1K: start-up, reopening, memory, against named alternatives.

    python scripts/bench/bench_selection.py --temp DIR --out scripts/bench/results/selection.json

A float16 artefact of 1,281,167 × 512 on disk (1.3 GB in DIR, given back afterwards): a mixture of 1,000 classes, as
wide between as within, whose variances fall as 1/i along the components, with a mean far from zero; 2 % of the rows
are near-duplicates of another, with noise of 5 to 40 % of its length. The data set is a permutation of the table.

Every figure is from a process of its own, which opens the table, reads it from a warm page cache and writes its
file; its peak is the kernel's VmHWM, libraries included. It runs on `--threads` threads, one unless told otherwise:
where other programs share the cores, several wait for each other and spin, and are slower than one. `agreement` asks
what the reduction to fewer dimensions costs: the same functions on all 512, and on 512 with another seed, which is as
much as agreement can mean.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from _results import write_results
from _selection_agreement import measure_agreement
from _selection_data import BLOCK, DEVICE, DIM, DIMS, ROWS, SEED, THRESHOLD, Inputs, make
from bench_embeddings import peak_mib

from rela_zoo.selection.geometry import (
    Geometry,
    KeyParts,
    Kind,
    default_clusters,
    geometry,
    k_centres,
    positions_digest,
    transport_digest,
)


class Clock:
    """Seconds since it was made: of the wall clock, and of the cores."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def read(self) -> np.ndarray:
        return np.array([time.perf_counter() - self._began[0], time.process_time() - self._began[1]])


def measure_geometry(folder: Path, kind: Kind) -> dict[str, Any]:
    """The whole start-up of a selection, without a file; then again with it."""
    inputs = Inputs(folder)
    cache = Path(tempfile.mkdtemp(dir=folder))

    def start_up() -> Geometry:
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
        return geometry(kind, points=inputs.points, key_parts=parts, cache=cache, device=DEVICE)

    before, load, clock = peak_mib(), os.getloadavg()[0], Clock()
    found = start_up()
    (seconds, cpu), peak, clock = clock.read(), peak_mib(), Clock()
    start_up()
    again = clock.read()[0]
    return {
        "start_up_seconds": round(seconds, 1),
        "of_which_points_seconds": round(inputs.points_seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "load_average_before": round(load, 1),
        "reopen_ms": round(again * 1e3, 1),
        "peak_rss_mib": round(peak),
        "rss_before_mib": round(before),
        "file_mib": round(sum(path.stat().st_size for path in cache.iterdir()) / 2**20, 1),
        "cells": len(found.centroids),
        "largest_cell": int(np.bincount(found.labels).max()),
        "radius": round(float(found.distances.max()), 3),
        **({"groups": int(found.groups.max()) + 1} if found.groups is not None else {}),
    }


def measure_sklearn(folder: Path) -> dict[str, Any]:
    """k-means as one would write it: all rows as float32 in memory, MiniBatchKMeans with its own defaults, predict."""
    from sklearn.cluster import MiniBatchKMeans

    inputs, clock = Inputs(folder), Clock()
    rows = np.empty(inputs.table.shape, np.float32)
    for number, piece in enumerate(inputs.table.iter_rows(BLOCK)):
        rows[number * BLOCK : number * BLOCK + len(piece)] = piece.numpy()
    MiniBatchKMeans(inputs.cells, n_init=1, random_state=SEED).fit(rows).predict(rows)
    seconds, cpu = clock.read()
    return {"seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1), "peak_rss_mib": round(peak_mib())}


def measure_one_by_one(folder: Path, tried: int = 20) -> dict[str, Any]:
    """Centres with one pass each: the time of the passes after the first, extrapolated to all."""
    inputs = Inputs(folder)
    points, times = inputs.points(), []
    for centres in (1, 1 + tried):
        clock = Clock()
        k_centres(points, centres, SEED, device=DEVICE, candidates=1)
        times.append(clock.read())
    return {"measured_centres": tried, **extrapolated((times[1] - times[0]) / tried * inputs.cells)}


def measure_all_pairs(folder: Path, tried: int = 8192) -> dict[str, Any]:
    """Near-duplicates without clusters: cosines of some rows with all, extrapolated to every pair once."""
    points = torch.from_numpy(Inputs(folder).points()).to(DEVICE)
    units, clock = torch.nn.functional.normalize(points, dim=1), Clock()
    for block in units[:tried].split(1024):
        for other in units.split(BLOCK):
            (block @ other.T).amax(1).cpu()
    return {"measured_rows": tried, **extrapolated(clock.read() * len(units) / tried / 2)}


def extrapolated(seconds: np.ndarray) -> dict[str, int]:
    return {"extrapolated_seconds": round(seconds[0]), "extrapolated_cpu_seconds": round(seconds[1])}


MEASURES: dict[str, Callable[[Path], dict[str, Any]]] = {
    **{kind: partial(measure_geometry, kind=kind) for kind in get_args(Kind)},
    "alternative to clusters: MiniBatchKMeans on all rows, fit and predict, 512 dimensions": measure_sklearn,
    "alternative to centres: one pass each, same points": measure_one_by_one,
    "alternative to duplicates: all pairs, same points": measure_all_pairs,
    "agreement": measure_agreement,
}


def main() -> None:
    """Make the artefact, measure each thing in another process, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--temp", type=Path, default=None, help="a folder with room for 1.4 GB")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        print(json.dumps(MEASURES[arguments.measure[0]](Path(arguments.measure[1]))))
        return
    temp = Path(tempfile.mkdtemp(prefix="bench-selection-", dir=arguments.temp))
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    found = {}
    try:
        make(temp, arguments.rows)
        for name in MEASURES:
            command = [sys.executable, __file__, "--measure", name, str(temp)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
            found[name] = json.loads(done.stdout)
            print(name, found[name], file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(temp)
    result: dict[str, Any] = {
        "command": "python scripts/bench/bench_selection.py",
        "rows": arguments.rows,
        "dim": DIM,
        "dtype": "float16",
        "dims": DIMS,
        "cells": default_clusters(arguments.rows),
        "threshold": THRESHOLD,
        "seed": SEED,
        "threads": arguments.threads,
        **found,
    }
    print(write_results(result, arguments.out), end="")


if __name__ == "__main__":
    main()
