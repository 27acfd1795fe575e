"""Fit a transport between two priors at the size of ImageNet-1K, in bounded memory, against the machine's own limits.

    python scripts/bench/bench_pairs.py --temp DIR --out scripts/bench/results/pairs.json

Two float16 artefacts on disk, 1,281,167 × 768 and × 512 (3.3 GB in DIR, given back afterwards), the second in reverse
order, so that the join by sample id has work to do. y = 0.8·x·Q + 0.6·noise with orthonormal columns Q, so the true
held-out R² is 0.64. The fit runs in a process of its own; its peak is the kernel's VmHWM, libraries included.

Two limits are measured in that same process just before and just after: `dgemm`, the rate of the float64 products
that the fit needs, (D + E)² per row, done by the same BLAS on one resident chunk; and `read`, plain reads of both
artefacts from the page cache into one buffer. Their sum over the fit's time is the share of the limit that is reached.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from _results import write_results
from bench_embeddings import peak_mib
from torch import Tensor

from rela_zoo.embeddings import open_embeddings, write_rows

ROWS, SOURCE_DIM, TARGET_DIM = 1_281_167, 768, 512
BLOCK = 8192
TRUE_R2 = 0.64


def source_block(number: int, count: int, dim: int) -> Tensor:
    """Rows (count, dim) float32 of one block, the same whenever they are asked for."""
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(number)).half().float()


def blocks(rows: int) -> Iterator[tuple[int, int]]:
    """Number and length of each block."""
    for number, start in enumerate(range(0, rows, BLOCK)):
        yield number, min(BLOCK, rows - start)


def make_tables(folder: Path, rows: int, source_dim: int, target_dim: int) -> None:
    """Both artefacts, hashes and all."""
    ids = [f"n{i % 1000:08d}/n{i % 1000:08d}_{i}.JPEG" for i in range(rows)]
    square = torch.randn(source_dim, target_dim, generator=torch.Generator().manual_seed(1 << 40))
    columns = torch.linalg.qr(square)[0]

    def targets() -> Iterator[Tensor]:
        for number, count in reversed(list(blocks(rows))):
            noise = torch.randn(count, target_dim, generator=torch.Generator().manual_seed((1 << 30) + number))
            yield (0.8 * source_block(number, count, source_dim) @ columns + 0.6 * noise).flip(0)

    sources = (source_block(number, count, source_dim) for number, count in blocks(rows))
    write_rows(folder / "source", sources, ids, prior={"id": "random-rows"})
    write_rows(folder / "target", targets(), ids[::-1], prior={"id": "rotated-rows"})


def dgemm_seconds(rows: int, width: int, chunk: int) -> float:
    """What the float64 products of all rows take at the rate seen on one resident chunk (median of 5)."""
    block = torch.randn(chunk, width, dtype=torch.float64)
    times = []
    for _ in range(6):
        started = time.perf_counter()
        block.T @ block
        times.append(time.perf_counter() - started)
    return sorted(times[1:])[2] * rows / chunk


def read_seconds(folder: Path) -> float:
    """Plain reads of every file of a folder into one buffer."""
    buffer = bytearray(16 << 20)
    started = time.perf_counter()
    for path in sorted(folder.iterdir()):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - started


def fit_here(folder: Path, chunk: int, device: str | None) -> None:
    """Runs in a process of its own and prints what it saw."""
    from rela_zoo.transport import fit_prior_transport

    source, target = open_embeddings(folder / "source"), open_embeddings(folder / "target")
    rows, width = len(source), source.shape[1] + target.shape[1]
    libraries = peak_mib()
    reads = [read_seconds(folder / "source") + read_seconds(folder / "target")]
    products = [dgemm_seconds(rows, width, chunk)]
    started, cpu = time.perf_counter(), time.process_time()
    transport = fit_prior_transport(source, target, chunk=chunk, device=device)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak = peak_mib()
    reads.append(read_seconds(folder / "source") + read_seconds(folder / "target"))
    products.append(dgemm_seconds(rows, width, chunk))
    limit = sum(reads) / 2 + sum(products) / 2
    assert transport.quality is not None
    found = {
        "fit_seconds": round(seconds, 1),
        "fit_cpu_seconds": round(cpu, 1),
        "rows_per_second": round(rows / seconds),
        "peak_rss_mib": round(peak),
        "rss_before_mib": round(libraries),
        "limit_dgemm_seconds": [round(one, 1) for one in products],
        "limit_read_seconds": [round(one, 1) for one in reads],
        "share_of_limit": round(limit / seconds, 3),
        "strength": transport.strength,
        "rows_fitted": transport.rows_fitted,
        "quality": vars(transport.quality),
    }
    print(json.dumps(found))


def main() -> None:
    """Make the artefacts, fit in another process, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--temp", type=Path, default=None, help="a folder with room for 3.3 GB")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--chunk", type=int, default=8192)
    parser.add_argument("--device", default=None)
    parser.add_argument("--fit", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fit is not None:
        fit_here(arguments.fit, arguments.chunk, arguments.device)
        return
    temp = Path(tempfile.mkdtemp(prefix="bench-pairs-", dir=arguments.temp))
    try:
        started = time.perf_counter()
        make_tables(temp, arguments.rows, SOURCE_DIM, TARGET_DIM)
        made = time.perf_counter() - started
        options = ["--chunk", str(arguments.chunk), *(["--device", arguments.device] if arguments.device else [])]
        done = subprocess.run(
            [sys.executable, __file__, "--fit", str(temp), *options], stdout=subprocess.PIPE, text=True, check=True
        )
    finally:
        shutil.rmtree(temp)
    result: dict[str, Any] = {
        "command": "python scripts/bench/bench_pairs.py",
        "rows": arguments.rows,
        "dims": [SOURCE_DIM, TARGET_DIM],
        "dtype": "float16",
        "chunk": arguments.chunk,
        "make_seconds": round(made, 1),
        "true_r2": TRUE_R2,
        **json.loads(done.stdout),
    }
    print(write_results(result, arguments.out), end="")


if __name__ == "__main__":
    main()
