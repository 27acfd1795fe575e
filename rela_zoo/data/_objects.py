"""From data set objects, of whichever library, to an `ImageSource`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from rela_zoo.data._arrays import ArraySource, SubsetSource
from rela_zoo.data._arrow import from_dataset
from rela_zoo.data._folders import FileSource, relative_ids
from rela_zoo.data._h5 import H5Source
from rela_zoo.data._map_style import ConcatSource, MapSource
from rela_zoo.data._source import ImageSource, integer_labels
from rela_zoo.data._splits import choose_split
from rela_zoo.errors import EmbeddingsError

FORMS = (
    "an image folder; a parquet file, a WebDataset tar, a folder of them or a pattern; an h5 or .npy file; what "
    "the `datasets` library saves or keeps; hf://datasets/org/name; a data set object (of `datasets`, torchvision, or "
    "any with items by number), a Subset or ConcatDataset of such; a uint8 array of images"
)


def from_object(data: Any, split: str | None, opened: Callable[[Any], ImageSource]) -> ImageSource:
    """The images of an object; see `image_source`.

    Args:
        data: no path.
        split: of an object that has several.
        opened: opens what the object is made of.

    Raises:
        EmbeddingsError: as `image_source`.
    """
    name = type(data).__name__
    if (found := from_dataset(data, split, partial(choose_split, what=name))) is not None:
        if split is not None and not hasattr(data, "keys"):
            raise _no_splits(name, split)
        return found
    if split is not None:
        raise _no_splits(name, split)
    if isinstance(data, ImageSource):
        return data
    if isinstance(data, np.ndarray):
        return ArraySource(data)
    if isinstance(getattr(data, "source", None), ImageSource):
        return data.source
    if (made := _of_torch(data, opened)) is not None:
        return made
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
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, Mapping):
        return MapSource(data)
    raise EmbeddingsError("the data is of no known form", expected=FORMS, got=name, fix="give its folder or its file")


def _of_torch(data: Any, opened: Callable[[Any], ImageSource]) -> ImageSource | None:
    from torch.utils.data import ConcatDataset, IterableDataset, Subset

    if isinstance(data, Subset):
        return SubsetSource(opened(data.dataset), data.indices)
    if isinstance(data, ConcatDataset):
        return ConcatSource([opened(one) for one in data.datasets])
    if isinstance(data, IterableDataset):
        raise EmbeddingsError(
            "an iterable data set has no images that can be looked up by number", expected=FORMS,
            got=type(data).__name__, fix="give its folder or its files",
        )  # fmt: skip
    return None


def _no_splits(name: str, split: str) -> EmbeddingsError:
    return EmbeddingsError(
        "a split is part of a path, or of a dictionary of splits", expected="a folder and a split of it, or data "
        "without one", got=f"{name} and split={split!r}", fix="leave split out",
    )  # fmt: skip


def _checked(source: FileSource, name: str) -> FileSource:
    if not len(source):
        raise EmbeddingsError(f"the data set {name} lists no images", expected="at least one", got="0")
    return source
