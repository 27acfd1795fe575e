"""Time the embedding table and the transport fit at the size of ImageNet-1K, against named alternatives.

    python scripts/bench/bench_embeddings.py --temp DIR --out scripts/bench/results/embeddings.json

Needs about 4.5 GB of disk in DIR, given back afterwards. Rows are random float16. Every figure is the median of
`--repeats`; "cold" means that the files' pages were dropped from the page cache first (posix_fadvise, Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import write_results

from rela_zoo.embeddings import open_embeddings, write_rows

SHARD_ROWS = 4096


def make_table(folder: Path, rows: int, dim: int) -> None:
    """A true artefact, hashes and all, of random rows."""
    block = np.random.default_rng(0).normal(size=(SHARD_ROWS, dim)).astype(np.float16)
    pieces = (
        torch.from_numpy(np.roll(block, number, axis=1)[: rows - first])
        for number, first in enumerate(range(0, rows, SHARD_ROWS))
    )
    ids = [f"n{i % 1000:08d}/n{i % 1000:08d}_{i}.JPEG" for i in range(rows)]
    write_rows(folder, pieces, ids, prior={"id": "random-rows"}, shard_rows=SHARD_ROWS)


def drop_cache(folder: Path) -> None:
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def measure_reads(
    folder: Path, opener: Callable[[], Any], reader: Callable[[Any, np.ndarray], Any], rows: int, repeats: int
) -> dict[str, float]:
    """Milliseconds to open, and to read 1,024 random rows cold, then the same rows warm."""
    found: dict[str, list[float]] = {"open_ms": [], "read_1024_cold_ms": [], "read_1024_warm_ms": []}
    for repeat in range(repeats):
        picked = np.random.default_rng(repeat).integers(0, rows, 1024)
        drop_cache(folder)
        times = [time.perf_counter()]
        table = opener()
        times.append(time.perf_counter())
        for _ in range(2):
            reader(table, picked)
            times.append(time.perf_counter())
        for name, seconds in zip(found, np.diff(times), strict=True):
            found[name].append(float(seconds) * 1e3)
        del table
    return {name: round(statistics.median(values), 2) for name, values in found.items()}


def peak_mib() -> float:
    """VmHWM of this process; ru_maxrss would begin at the size of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def fit_here(kind: str, path: Path) -> None:
    """Runs in a process of its own: seconds, and how far memory rose above what the libraries take."""
    rows: Any
    if kind == "rela_zoo":
        from rela_zoo.transport import fit_transport

        rows = open_embeddings(path)
        before = peak_mib()
        started = time.perf_counter()
        fit_transport(rows, device="cpu")
    else:
        from sklearn.decomposition import PCA

        before = peak_mib()
        started = time.perf_counter()
        rows = np.load(path).astype(np.float32)
        PCA(whiten=True, svd_solver="covariance_eigh").fit(rows)
    seconds = time.perf_counter() - started
    rise = peak_mib() - before
    print(json.dumps({"rows_per_s": round(len(rows) / seconds), "seconds": round(seconds, 2), "rise_mib": round(rise)}))


def fit_elsewhere(kind: str, path: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, "--fit", kind, str(path)], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main(args: argparse.Namespace) -> None:

    temp = Path(tempfile.mkdtemp(prefix="bench-embeddings-", dir=args.temp))
    result: dict[str, Any] = {"rows": args.rows, "dim": args.dim, "dtype": "float16", "repeats": args.repeats}
    try:
        folder = temp / "table"
        started = time.perf_counter()
        make_table(folder, args.rows, args.dim)
        result["write_mb_per_s"] = round(args.rows * args.dim * 2 / 1e6 / (time.perf_counter() - started))
        reads = {
            "rela_zoo.open_embeddings": measure_reads(
                folder, lambda: open_embeddings(folder), lambda t, i: t.rows(i), args.rows, args.repeats
            )
        }
        table = open_embeddings(folder)
        started = time.perf_counter()
        ids = list(table.ids)
        read = time.perf_counter()
        table.positions(ids[::-1])
        result["ids"] = {
            "read_and_check_s": round(read - started, 2),
            "first_join_of_all_s": round(time.perf_counter() - read, 2),
        }
        started = time.perf_counter()
        open_embeddings(folder, verify="full")
        result["verify_full_s"] = round(time.perf_counter() - started, 1)

        other = temp / "other"
        other.mkdir()
        flat = np.lib.format.open_memmap(other / "rows.npy", "w+", np.float16, (args.rows, args.dim))
        at = 0
        for piece in table.iter_rows():
            flat[at : at + len(piece)] = piece.numpy()
            at += len(piece)
        flat.flush()
        del flat, table
        shutil.rmtree(folder)
        reads["np.load(mmap_mode='r')"] = measure_reads(
            other, lambda: np.load(other / "rows.npy", mmap_mode="r"), lambda t, i: t[i], args.rows, args.repeats
        )
        torch.save(torch.from_numpy(np.load(other / "rows.npy")), other / "rows.pt")
        (other / "rows.npy").unlink()
        reads["torch.load(mmap=True)"] = measure_reads(
            other,
            lambda: torch.load(other / "rows.pt", mmap=True, weights_only=True),
            lambda t, i: t[torch.from_numpy(i)],
            args.rows,
            args.repeats,
        )
        reads["torch.load()"] = measure_reads(
            other,
            lambda: torch.load(other / "rows.pt", weights_only=True),
            lambda t, i: t[torch.from_numpy(i)],
            args.rows,
            1,
        )
        result["reads"] = reads

        (other / "rows.pt").unlink()
        make_table(temp / "fit", args.fit_rows, args.dim)
        np.save(other / "fit.npy", torch.cat(list(open_embeddings(temp / "fit").iter_rows())).numpy())
        result["fit"] = {
            "rows": args.fit_rows,
            "rela_zoo.fit_transport": fit_elsewhere("rela_zoo", temp / "fit"),
            "sklearn PCA(svd_solver='covariance_eigh'), float32": fit_elsewhere("sklearn", other / "fit.npy"),
        }
    finally:
        shutil.rmtree(temp)
    print(write_results(result, args.out), end="")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--temp", type=Path, default=Path(tempfile.gettempdir()), help="folder with room")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--rows", type=int, default=1_281_167)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--fit-rows", type=int, default=131_072)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--fit", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.fit:
        fit_here(given.fit[0], Path(given.fit[1]))
    else:
        main(given)
