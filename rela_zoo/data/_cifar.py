"""CIFAR-10 and CIFAR-100 as torchvision stores them; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

from rela_zoo.data._arrays import ArraySource
from rela_zoo.data._source import LeftOut
from rela_zoo.errors import EmbeddingsError

FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
COUNTS = {"train": 50_000, "test": 10_000}


def cifar_source(root: Path, name: str, split: str) -> ArraySource:
    """One of the two parts of CIFAR, with labels.

    Args:
        root: the folder that holds the unpacked archive.
        name: cifar10 or cifar100.
        split: train or test.

    Raises:
        EmbeddingsError: it isn't there, or not whole.
    """
    from torchvision import datasets

    try:
        found = getattr(datasets, name.upper())(str(root), train=split == "train", download=False)
    except RuntimeError:
        raise EmbeddingsError(
            f"there is no {name} in {root}",
            expected=f"{name} as torchvision stores it ({FOLDERS[name]}/ with its checksums), or parquet files",
            got=f"neither in {root}",
            fix=f"unpack the archive of {name} there, or name its parquet files",
        ) from None
    source = ArraySource(found.data, name, [int(one) for one in found.targets], list(found.classes))
    other = "test" if split == "train" else "train"
    source.left_out = (LeftOut(f"split {other}", COUNTS[other], other),)
    return source
