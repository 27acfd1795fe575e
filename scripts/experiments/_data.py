"""The images of a grid: a part of CIFAR-10, written once into the work folder, so that a user can train on the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from rela_zoo._io.files import atomic_write

_CHOICE_SEED = 0  # of the images of a smaller experiment: the same for all seeds of training


def choose(total: int, count: int | None) -> np.ndarray:
    """Positions of the images kept: (min(count, total),) int64, rising; the same for every run.

    The files are sorted by class, so the first images would be those of one class.
    """
    if count is None or count >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(_CHOICE_SEED).permutation(total)[:count])


def write_part(source: Path, part: str, count: int | None, work: Path) -> str:
    """Write the chosen images as a parquet file in the layout of the source.

    Args:
        source: folder with train.parquet and test.parquet (layout of the Hub's uoft-cs/cifar10), or with a folder
            `cifar10` of them.
        part: `train` or `test`.
        count: images to keep; None keeps all.
        work: the work folder.

    Returns:
        The file's path relative to `work`. Its name holds the number of images and a digest of them and their labels,
        so that a configuration that names it says which images it trains on.

    Raises:
        FileNotFoundError: with what was expected.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = next(
        (path for path in (source / f"{part}.parquet", source / "cifar10" / f"{part}.parquet") if path.is_file()), None
    )
    if found is None:
        raise FileNotFoundError(
            f"expected CIFAR-10 in parquet form at {source / f'{part}.parquet'}, found no such file; point --data at "
            "the folder that holds train.parquet and test.parquet (in the layout of the Hub's uoft-cs/cifar10)"
        )
    table = pq.read_table(found)
    table = table.take(choose(len(table), count))
    digest = hashlib.sha256()
    for image, label in zip(table.column("img").to_pylist(), table.column("label").to_pylist(), strict=True):
        digest.update(hashlib.sha256(image["bytes"]).digest() + bytes([label]))
    name = f"cifar10/{part}-{len(table)}-{digest.hexdigest()[:8]}.parquet"
    if not (work / name).is_file():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        atomic_write(work / name, sink.getvalue().to_pybytes())
    return name
