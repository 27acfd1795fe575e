"""From whatever the user calls data to an `ImageSource`."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import Any

import numpy as np

from rela_zoo.data._arrays import ArraySource, SubsetSource
from rela_zoo.data._folders import FileSource, folder_source, relative_ids
from rela_zoo.data._h5 import SUFFIXES as H5_SUFFIXES
from rela_zoo.data._h5 import H5Source
from rela_zoo.data._parquet import ParquetSource, parquet_files
from rela_zoo.data._source import ImageSource
from rela_zoo.errors import EmbeddingsError

_FORMS = (
    "an image folder, a parquet file or a folder of them, an h5 file, a torchvision-style data set (`samples`, "
    "`images` or `data`), or a uint8 array of images"
)


def image_source(data: Any) -> ImageSource:
    """Make one list of images with lasting ids out of any accepted form of data.

    Args:
        data: an `ImageSource`; a path to an image folder (class folders or flat), to a parquet file in the Hub's
            layout, to a folder of such files, or a pattern for them (`DIR/train-*.parquet`), to an h5 file of class
            groups; a data set object with `samples` (ImageFolder), with `images` and `root`, or with `data`
            (CIFAR10, STL10, MNIST), read now, not later; a `torch.utils.data.Subset` of one; a uint8 array
            (N, H, W, 3), (N, 3, H, W) or (N, H, W).

    Returns:
        The source. Ids of files are POSIX paths relative to the folder, so that a folder and an ImageFolder on it
        agree; ids of arrays are "<index>:<digest of the pixels>". Paths come sorted, objects in their own order.

    Raises:
        EmbeddingsError: missing path, no images, an empty class folder, repeated ids, or an unknown form.
    """
    if isinstance(data, ImageSource):
        return data
    if isinstance(data, str | os.PathLike):
        return _from_path(Path(data).expanduser())
    if isinstance(data, np.ndarray):
        return ArraySource(data)
    name = type(data).__name__
    if _is_subset(data):
        return SubsetSource(image_source(data.dataset), data.indices)
    if hasattr(data, "samples") and hasattr(data, "root"):
        # torchvision's ImageNet lists the files of a split, but calls the folder above it its root.
        root = getattr(data, "split_folder", None) or data.root
        return _checked(FileSource(root, relative_ids(root, [sample[0] for sample in data.samples])), name)
    if isinstance(getattr(data, "images", None), list) and hasattr(data, "root"):
        root = str(data.root)
        return _checked(FileSource(root, relative_ids(root, [os.path.join(root, one) for one in data.images])), name)
    if hasattr(data, "h5_path") and hasattr(data, "_data"):
        # solo-learn's H5Dataset: (class, name, label) in its own order, perhaps of some classes only.
        return H5Source(data.h5_path, [f"{entry[0]}/{entry[1]}" for entry in data._data])
    if hasattr(data, "data") and (hasattr(data, "targets") or hasattr(data, "labels")):
        return ArraySource(np.asarray(data.data), name)
    if hasattr(data, "__array__"):
        return ArraySource(np.asarray(data), name)
    raise EmbeddingsError("the data is of no known form", expected=_FORMS, got=name, fix="give its folder or its file")


def _from_path(path: Path) -> ImageSource:
    if not path.exists():
        matches = [Path(one) for one in sorted(glob.glob(str(path))) if one.endswith(".parquet")]
        if matches:
            return ParquetSource(matches)
        raise EmbeddingsError(
            f"there is nothing at {path}", expected="an image folder or a parquet file", got="no such path",
            fix="correct the path",
        )  # fmt: skip
    if path.is_file():
        return H5Source(path) if path.suffix.lower() in H5_SUFFIXES else ParquetSource([path])
    files = list(path.glob("*.parquet"))
    source = None if files else folder_source(path)
    if source is not None:
        return source
    files = files or list(path.rglob("*.parquet"))
    if files:
        return ParquetSource(parquet_files(files, path))
    folders = sorted(one.name for one in path.iterdir() if one.is_dir())
    raise EmbeddingsError(
        f"no images found in {path}",
        expected="images, class folders with images, or parquet files",
        got=f"{len(folders)} folders without images ({', '.join(folders[:3])})" if folders else "none of these",
        fix="correct the path",
    )


def _checked(source: FileSource, name: str) -> FileSource:
    if not len(source):
        raise EmbeddingsError(f"the data set {name} lists no images", expected="at least one", got="0")
    return source


def _is_subset(data: Any) -> bool:
    from torch.utils.data import Subset

    return isinstance(data, Subset)
