"""The images of a grid: a part of CIFAR-10, written once into the work folder, so that a user can train on the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rela_zoo._io.files import atomic_write

_CHOICE_SEED = 0  # of the images of a smaller experiment: the same for all seeds of training


def choose(total: int, count: int | None, skip: int = 0) -> np.ndarray:
    """Positions of the images kept: (min(count, total - skip),) int64, rising; the same for every run.

    The files are sorted by class, so the first images would be those of one class.

    Args:
        total: images of the file.
        count: images to keep; None keeps all that are left.
        skip: images that another choice keeps.
    """
    end = total if count is None else skip + count
    return np.sort(np.random.default_rng(_CHOICE_SEED).permutation(total)[skip:end])


def write_parts(source: Path, images: Mapping[str, int | None], work: Path) -> list[str]:
    """Write the training images of a grid, and those that students are judged on.

    Args:
        source: as for `write_part`.
        images: how many: `train`, and `test` or `held_out`; the latter are training images that no run trains on, for
            whatever is chosen by accuracy.
        work: the work folder.

    Returns:
        The two files' paths relative to `work`.
    """
    train = write_part(source, "train", images["train"], work)
    if "held_out" not in images:
        return [train, write_part(source, "test", images["test"], work)]
    if images["train"] is None:
        raise ValueError("expected a number under data.train where images are held out")
    return [train, write_part(source, "train", images["held_out"], work, skip=images["train"])]


def write_part(source: Path, part: str, count: int | None, work: Path, skip: int = 0) -> str:
    """Write the chosen images as a parquet file in the layout of the source.

    Args:
        source: folder with train.parquet and test.parquet (layout of the Hub's uoft-cs/cifar10), or with a folder
            `cifar10` of them.
        part: `train` or `test`.
        count: images to keep; None keeps all.
        work: the work folder.
        skip: images that another part keeps.

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
    table = table.take(choose(len(table), count, skip))
    digest = hashlib.sha256()
    for image, label in zip(table.column("img").to_pylist(), table.column("label").to_pylist(), strict=True):
        digest.update(hashlib.sha256(image["bytes"]).digest() + bytes([label]))
    part = "held-out" if skip else part
    name = f"cifar10/{part}-{len(table)}-{digest.hexdigest()[:8]}.parquet"
    if not (work / name).is_file():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        atomic_write(work / name, sink.getvalue().to_pybytes())
    return name
