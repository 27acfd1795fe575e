"""From whatever the user calls data to an `ImageSource`: the one opener of every command."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rela_zoo.data._arrays import ArraySource, SubsetSource
from rela_zoo.data._cifar import FOLDERS, cifar_source
from rela_zoo.data._folders import FileSource, folder_source, relative_ids
from rela_zoo.data._h5 import SUFFIXES as H5_SUFFIXES
from rela_zoo.data._h5 import H5Source
from rela_zoo.data._listing import Listing, is_hidden, list_folder
from rela_zoo.data._parquet import ParquetSource
from rela_zoo.data._source import ImageSource, LeftOut, integer_labels
from rela_zoo.data._splits import NAMES, canonical, no_such_split, parquet_source, say, say_taken
from rela_zoo.errors import EmbeddingsError

_FORMS = (
    "an image folder, a parquet file or a folder of them, an h5 file, a torchvision-style data set (`samples`, "
    "`images` or `data`), or a uint8 array of images"
)


def image_source(data: Any, *, split: str | None = None) -> ImageSource:
    """Make one list of images with lasting ids, and labels where there are any, out of any accepted form of data.

    Hidden files and folders, and a Mac's companions `._name`, are none of the data; linked folders are followed. What
    else is not taken is counted in `left_out` and said in a warning.

    Args:
        data: an `ImageSource`, or a data set over one; a path to an image folder (class folders or flat), to a parquet
            file in the Hub's layout, to a folder with such files in it or anywhere below, or a pattern for them
            (`DIR/train-*.parquet`), to an h5 file of class groups, to the folder of CIFAR as torchvision unpacks it; a
            data set object with `samples` (ImageFolder), with `images` and `root`, or with `data` (CIFAR10, STL10,
            MNIST), read now, not later; a `torch.utils.data.Subset` of one; a uint8 array (N, H, W, 3), (N, 3, H, W)
            or (N, H, W).
        split: of a path that has several, such as `train`, `test` or `validation` (or `val`); None takes `train`, and
            says so. A folder of class folders named like splits is taken whole without it.

    Returns:
        The source. Ids of files are POSIX paths relative to the folder, so that a folder and an ImageFolder on it
        agree; ids of arrays are "<index>:<digest of the pixels>". Paths come sorted, objects in their own order.

    Raises:
        EmbeddingsError: missing path, no images, an empty class folder, repeated ids, an unknown form, several splits
            without `train` among them, or no such split.

    Examples:
        >>> from rela_zoo import image_source
        >>> images = image_source("photos")
        >>> len(images), images.ids[0], images.image(0).size, images.labels[0]
        (240, 'cat/000.png', (32, 32), 0)
    """
    if isinstance(data, str | os.PathLike):
        return open_path(Path(data).expanduser(), None if split is None else (split,), insist=True)
    if split is not None:
        raise EmbeddingsError(
            "a split is part of a path", expected="a folder and a split of it, or data without one",
            got=f"{type(data).__name__} and split={split!r}", fix="leave split out",
        )  # fmt: skip
    if isinstance(data, ImageSource):
        return data
    if isinstance(data, np.ndarray):
        return ArraySource(data)
    return _from_object(data)


def _from_object(data: Any) -> ImageSource:
    name = type(data).__name__
    if isinstance(getattr(data, "source", None), ImageSource):
        return data.source
    if _is_subset(data):
        return SubsetSource(image_source(data.dataset), data.indices)
    classes = getattr(data, "classes", None)
    classes = [str(one) for one in classes] if isinstance(classes, list | tuple) else None
    if hasattr(data, "samples") and hasattr(data, "root"):
        # torchvision's ImageNet lists the files of a split, but calls the folder above it its root.
        root = getattr(data, "split_folder", None) or data.root
        ids = relative_ids(root, [sample[0] for sample in data.samples])
        labels = integer_labels([sample[-1] for sample in data.samples])
        return _checked(FileSource(root, ids, labels, classes), name)
    if isinstance(getattr(data, "images", None), list) and hasattr(data, "root"):
        root = str(data.root)
        return _checked(FileSource(root, relative_ids(root, [os.path.join(root, one) for one in data.images])), name)
    if hasattr(data, "h5_path") and hasattr(data, "_data"):
        # solo-learn's H5Dataset: (class, name, label) in its own order, perhaps of some classes only.
        labels = integer_labels([entry[-1] for entry in data._data])
        return H5Source(data.h5_path, [f"{entry[0]}/{entry[1]}" for entry in data._data], labels, classes)
    if hasattr(data, "data") and (hasattr(data, "targets") or hasattr(data, "labels")):
        labels = integer_labels(data.targets if hasattr(data, "targets") else data.labels)
        return ArraySource(np.asarray(data.data), name, labels, classes)
    if hasattr(data, "__array__"):
        return ArraySource(np.asarray(data), name)
    raise EmbeddingsError("the data is of no known form", expected=_FORMS, got=name, fix="give its folder or its file")


def open_path(path: Path, wanted: Sequence[str] | None, *, insist: bool) -> ImageSource:
    """The images at a path.

    Args:
        path: a folder, a file, or a pattern for parquet files.
        wanted: splits asked for, the first there being taken; None for none.
        insist: whether one of them must be there. Else what has no splits is taken as it is.

    Raises:
        EmbeddingsError: as `image_source`.
    """
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
    if wanted is not None and insist and (below := _split_folder(path, wanted[0])) is not None:
        return open_path(below, None, insist=True)
    direct = [one.name for one in path.glob("*.parquet") if one.is_file() and not is_hidden(one.name)]
    if direct:
        return parquet_source(path, direct, wanted, insist)
    listing = list_folder(path)
    source = folder_source(path, listing)
    if source is not None:
        if wanted is not None and insist:
            raise no_such_split(path, wanted[0], [one for one in listing.folders if one in NAMES])
        _say_left_out(path, source.left_out)
        _suspect_splits(path, source.classes)
        return source
    for name, folder in FOLDERS.items():
        if folder in listing.folders:
            return _cifar(path, name, wanted, insist)
    if listing.parquet:
        return parquet_source(path, listing.parquet, wanted, insist)
    raise _no_images(path, listing)


def _split_folder(path: Path, split: str) -> Path | None:
    """The folder of a split inside `path`, by any of the split's names, if it is not one of parquet files."""
    names = [split, *(alias for alias, one in NAMES.items() if one == canonical(split))]
    found = next((path / name for name in names if (path / name).is_dir()), None)
    return found if found is not None and list_folder(found).images else None


def _cifar(path: Path, name: str, wanted: Sequence[str] | None, insist: bool) -> ArraySource:
    split = next((one for one in map(canonical, wanted or ("train",)) if one in ("train", "test")), None)
    if split is None:
        assert wanted is not None
        raise no_such_split(path, wanted[0], ["train", "test"])
    source = cifar_source(path, name, split)
    if wanted is None:
        say_taken(path, split, len(source), source.left_out, None)
    return source


def _say_left_out(path: Path, left_out: Sequence[LeftOut]) -> None:
    """One warning for each kind of thing that lies there and is not taken."""
    by_ending = [one for one in left_out if one.what.startswith("ending in")]
    if by_ending:
        counts = ", ".join(f"{one.what.removeprefix('ending in ')} {one.count:,}" for one in by_ending)
        say(
            f"{sum(one.count for one in by_ending):,} pictures in {path} are left out, for their endings are not read: "
            f"{counts} (first: {by_ending[0].example}); save them as PNG or JPEG (.jfif is JPEG by another name)"
        )
    for one in left_out:
        if one.what == "directly in the folder":
            say(
                f"{one.count:,} images directly in {path} are left out: it has class folders, and they are in none "
                f"(first: {one.example})"
            )
        elif one.what == "parquet files":
            say(
                f"{one.count:,} parquet files in {path} are left out, for it has image files (first: {one.example}); "
                f"name them, or their folder, to take them"
            )
        elif one not in by_ending:
            say(f"{one.count:,} {one.what} are left out of {path} (first: {one.example})")


def _suspect_splits(path: Path, classes: Sequence[str]) -> None:
    if classes and set(classes) <= NAMES.keys():
        say(
            f"{path} looks like a folder of splits ({', '.join(classes)}), and all of them are taken together; "
            f"for the training images alone give {path / classes[0]}"
        )


def _no_images(path: Path, listing: Listing) -> EmbeddingsError:
    got = "none of these"
    if listing.folders:
        got = f"{len(listing.folders)} folders without images ({', '.join(listing.folders[:3])})"
    others = [f"{one.count} {one.what}" for one in listing.left_out()]
    return EmbeddingsError(
        f"no images found in {path}",
        expected="images, class folders with images, or parquet files",
        got=", ".join([got, *others]),
        fix="save the pictures as PNG or JPEG" if listing.not_read else "correct the path",
    )


def _checked(source: FileSource, name: str) -> FileSource:
    if not len(source):
        raise EmbeddingsError(f"the data set {name} lists no images", expected="at least one", got="0")
    return source


def _is_subset(data: Any) -> bool:
    from torch.utils.data import Subset

    return isinstance(data, Subset)
