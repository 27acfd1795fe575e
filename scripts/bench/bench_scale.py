"""A billion rows, but for the rows: do ids, claims, index and reduction stay within bounded memory and time?

    python scripts/bench/bench_scale.py [--rows 1000000000] [--processes 2] [--parts 64] [--out FILE]

Processes share one artefact by `embed_part`, as on many machines, with everything that the package does but decoding
and the prior: a row is one value, made of its number. The ids are made up when they are asked for; the sources of this
package keep theirs in memory, some 100 bytes each, so a source of so many images has to bring its own. Then random rows
are read, the transport is fitted by parts over all rows, and moments of `--dim` values are merged from as many parts.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import write_results
from PIL import Image


class Numbers(Sequence[str]):
    """Ids that are numbers in hexadecimal, made when they are asked for."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, item: Any) -> Any:
        return f"{item:x}"

    def __iter__(self) -> Iterator[str]:
        return (f"{i:x}" for i in range(self._count))


def source(rows: int) -> Any:
    """Images of one pixel, which only the digests of a few are ever asked of."""
    from rela_zoo.data import ImageSource

    class Made(ImageSource):
        ids = Numbers(rows)

        def raw(self, index: int) -> bytes:
            return index.to_bytes(8, "little")

        def image(self, index: int) -> Image.Image:
            return Image.new("RGB", (1, 1), (index % 256, index // 256 % 256, 0))

        def describe(self) -> str:
            return "numbers"

        def probe(self) -> str:
            return "0" * 64

    return Made()


def prior() -> Any:
    """A prior of one value, which is never asked for it."""
    from rela_zoo import load_prior

    found = load_prior("cifar10-resnet20")
    found.dim = 1
    return found


def work(rows: int, out: Path, part: tuple[int, int], answers: Any) -> None:
    """One process of several."""
    from rela_zoo.embeddings import embed_part

    # Reaches inside on purpose: what makes the rows is replaced, and all around it is as it is.
    inside, making, store = (
        importlib.import_module(f"rela_zoo.embeddings.{name}") for name in ("_parts", "_make_shards", "_store")
    )
    made = 0

    def numbered(prior: Any, source: Any, plan: Any, out: Path, numbers: Sequence[int], *args: Any, **more: Any) -> Any:
        nonlocal made
        made += len(numbers)
        shards = {}
        for number in numbers:
            values = np.array(making.shard_range(plan, number))[:, None] % 97
            shards[number] = store.write_shard(out, plan, number, values.astype(np.float16), ())
        return making.Made(shards, {})

    inside.make_shards = numbered
    began = time.perf_counter()
    table = embed_part(prior(), source(rows), out, part, progress=False)
    answers.put(
        {
            "part": f"{part[0]}/{part[1]}", "shards": made, "wrote_index": table is not None,
            "seconds": round(time.perf_counter() - began, 1), "peak_mib": _peak(),
        }
    )  # fmt: skip


def read(out: Path, parts: int, answers: Any) -> None:
    """Open what was made, read some of it, and fit a transport over all of it by parts."""
    from rela_zoo import open_embeddings
    from rela_zoo.transport import fit_transport_part

    began = time.perf_counter()
    table = open_embeddings(out)
    opened = time.perf_counter() - began
    picks = np.random.default_rng(0).integers(0, len(table), 1024)
    began = time.perf_counter()
    assert (table.rows(picks).numpy()[:, 0] == picks % 97).all()
    drawn, file = time.perf_counter() - began, out / "t.safetensors"
    began = time.perf_counter()
    *_, made = (fit_transport_part(table, file, (i, parts), chunk=1 << 20, device="cpu") for i in range(1, parts + 1))
    assert made is not None
    assert made.stats.rows == len(table)
    answers.put(
        {
            "rows": len(table), "shards": len(table.info.shards), "open_seconds": round(opened, 2),
            "read_1024_seconds": round(drawn, 3), "fit_parts": parts,
            "fit_seconds": round(time.perf_counter() - began, 1), "peak_mib": _peak(),
        }
    )  # fmt: skip


def merge(parts: int, dim: int, answers: Any) -> None:
    """Moments of many parts, as a billion rows of that many values would leave them: one reduction."""
    from rela_zoo.transport import Moments, chunk_moments, merge_moments

    torch.manual_seed(0)
    one = chunk_moments(torch.randn(2 * dim, dim))
    began = time.perf_counter()
    whole = one
    for number in range(1, parts):
        whole = merge_moments(whole, Moments(one.rows, one.mean + number * 1e-3, one.scatter))
    answers.put(
        {
            "parts": parts, "dim": dim, "rows": whole.rows, "seconds": round(time.perf_counter() - began, 2),
            "peak_mib": _peak(),
        }
    )  # fmt: skip


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _in_processes(target: Any, *calls: tuple[Any, ...]) -> list[dict[str, Any]]:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    running = [context.Process(target=target, args=(*call, answers)) for call in calls]
    for one in running:
        one.start()
    found = [answers.get() for _ in running]
    for one in running:
        one.join()
    return found


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10**9)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--parts", type=int, default=64, help="of the fit")
    parser.add_argument("--dim", type=int, default=768, help="of the moments that are merged")
    parser.add_argument("--work", type=Path, default=None, help="folder for some 13 bytes a row")
    parser.add_argument("--out", type=Path, default=None, help="JSON file")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="scale-", dir=args.work))
    try:
        result: dict[str, Any] = {"rows": args.rows, "processes": args.processes}
        calls = [(args.rows, folder / "rows", (i + 1, args.processes)) for i in range(args.processes)]
        began = time.perf_counter()
        result["embed"] = sorted(_in_processes(work, *calls), key=lambda one: str(one["part"]))
        result["embed_seconds"] = round(time.perf_counter() - began, 1)
        result["bytes"] = sum(path.stat().st_size for path in (folder / "rows").iterdir())
        result["index_bytes"] = (folder / "rows" / "index.json").stat().st_size
        (result["read"],) = _in_processes(read, (folder / "rows", args.parts))
        (result["merge"],) = _in_processes(merge, (args.parts, args.dim))
        print(write_results(result, args.out))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
