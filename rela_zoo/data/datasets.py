"""Torch data sets over sources of images, and the one that a configuration's `data` section names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from rela_zoo.data._cifar import FOLDERS, cifar_source
from rela_zoo.data._classes import class_numbers
from rela_zoo.data._listing import list_folder
from rela_zoo.data._open import open_path
from rela_zoo.data._parquet import ParquetSource
from rela_zoo.data._patterns import is_there
from rela_zoo.data._source import ImageSource
from rela_zoo.data._splits import OTHERS
from rela_zoo.data._undecodable import without
from rela_zoo.errors import EmbeddingsError, Problem

# The splits that each part may be, the first there being taken; files whose names say no split are either.
_PARTS = {"train": ("train", OTHERS), "val": ("validation", "test", OTHERS)}


class ImageDataset(Dataset):
    """Items (index, transform(image), target) of a source; `transform` is read afresh for every item.

    `image_source` of it is the source: its samples are known by the ids that embeddings of the same data have.

    Args:
        source: the images.
        labelled: whether targets are the source's labels; else they are −1. The images are the same either way.
        transform: of an RGB image; None for the image itself.

    Attributes:
        source, transform: as given.
        classes: names of the classes; one, `unlabelled`, without labels.
        indexed: False for items (image, target), as validation wants them.

    Raises:
        EmbeddingsError: labels are wanted and the source has none.

    Examples:
        >>> import numpy as np
        >>> from rela_zoo.data import image_source
        >>> data = ImageDataset(image_source(np.zeros((2, 8, 8, 3), np.uint8)), labelled=False)
        >>> index, image, target = data[1]
        >>> index, image.size, target
        (1, (8, 8), -1)
    """

    def __init__(
        self, source: ImageSource, *, labelled: bool = True, transform: Callable[[Any], Any] | None = None
    ) -> None:
        self.source, self.transform, self.indexed = source, transform, True
        self._labels = source.labels if labelled else None
        self._numbers: list[int] | None = None  # of the source's classes among `classes`; None if they are the same
        if labelled and self._labels is None:
            raise EmbeddingsError(
                f"the {source.describe()} has no labels", expected="class folders, or a column of labels", got="none",
                fix="do without them: labelled=False",
            )  # fmt: skip
        self.classes = ["unlabelled"] if self._labels is None else list(source.classes)

    def without(self, ids: Collection[str]) -> ImageDataset:
        """The data set without some of its images, with the same classes."""
        source = without(self.source, ids)
        if source is self.source:
            return self
        smaller = ImageDataset(source, labelled=self._labels is not None, transform=self.transform)
        smaller.classes, smaller.indexed, smaller._numbers = self.classes, self.indexed, self._numbers
        return smaller

    def numbered_as(self, classes: Sequence[str]) -> ImageDataset:
        """The data set with its classes, known by their names, numbered as those of another one.

        Args:
            classes: the other one's.

        Raises:
            EmbeddingsError: images are of another class.

        Examples:
            >>> from rela_zoo.data import image_source
            >>> data = ImageDataset(image_source("photos"))
            >>> data.classes, data.numbered_as(["dog", "cat"]).target(0), data.target(0)
            (['cat', 'dog'], 1, 0)
        """
        if self._labels is None or self.classes == list(classes):
            return self
        other = ImageDataset(self.source, transform=self.transform)
        other._numbers = class_numbers(classes, self.source.classes, self._labels).tolist()
        other.classes, other.indexed = list(classes), self.indexed
        return other

    def target(self, index: int) -> int:
        """The class of an image, or −1."""
        label = -1 if self._labels is None else int(self._labels[index])
        return label if self._numbers is None else self._numbers[label]

    def rest(self, index: int) -> list[Any]:
        """An item, None in place of the image, which is not read."""
        return [index, None, self.target(index)]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Any:
        image: Any = self.source.image(index)
        image = image if self.transform is None else self.transform(image)
        return (index, image, self.target(index)) if self.indexed else (image, self.target(index))


class DataProblem(Exception):
    """The data are not as the configuration says; carries the problem, for the list of all of them."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


def open_dataset(data: Mapping[str, Any], part: str) -> ImageDataset:
    """The data set that a `data` section names, without transforms: the images that `image_source` finds there.

    Of a path with several splits, training takes `train`, and validation `validation` (or `val`), else `test`.

    Args:
        data: with `dataset`, `train_path`, `val_path`, `format`, `no_labels`.
        part: `train` or `val`.

    Raises:
        DataProblem: if it isn't there, or isn't what the section says.
    """
    key = f"data.{part}_path"
    root = str(data[f"{part}_path"])
    if not is_there(root):
        fix = f"set {key} to a folder or parquet file that exists"
        raise DataProblem(Problem(key, "an existing path", str(Path(root).expanduser()), fix))
    try:
        source = _source(data, root, part)
        if data["no_labels"] or source.labels is not None:
            return ImageDataset(source, labelled=not data["no_labels"])
    except EmbeddingsError as error:
        got = error.what if error.got is None else f"{error.what}: {error.got}"
        problem = Problem(key, str(error.expected or "images"), got, error.fix or f"correct {key}")
        raise DataProblem(problem) from error
    if isinstance(source, ParquetSource):
        expected, got = "a column of numbers named `label` or `fine_label`", f"{', '.join(source.columns())} in {root}"
        fix = "rename or add the column of labels; data.no_labels=true does without"
    else:
        expected, got = "a folder with one folder of images a class", f"{root} without class folders in it"
        fix = "sort the images into class folders, or set data.no_labels=true for a flat folder"
    raise DataProblem(Problem(key, expected, got, fix))


def open_images(path: str | Path, part: str) -> ImageSource:
    """The images at a path that a training, or its judgement, takes: `open_dataset` without a `data` section.

    Args:
        path: whatever `image_source` takes as a path.
        part: `train` or `val`.

    Raises:
        EmbeddingsError: as `image_source`, but for a split that isn't there.
    """
    return open_path(path, _PARTS[part], insist=False)


def _source(data: Mapping[str, Any], path: str, part: str) -> ImageSource:
    """What the section means: `dataset` may name CIFAR, `format` may insist on parquet; else whatever is there."""
    wanted, name = _PARTS[part], data["dataset"]
    insists, root = data["format"] == "parquet", Path(path).expanduser()
    if root.is_dir() and (insists or name in FOLDERS) and not any(root.glob("*.parquet")):
        listing = list_folder(root)
        if not listing.parquet or listing.images:
            if insists:
                raise EmbeddingsError(
                    f"no parquet files in {root}", expected="parquet files",
                    got="images" if listing.images else "none", fix="set data.format=image_folder",
                )  # fmt: skip
            return cifar_source(root, name, "train" if part == "train" else "test")
        if name in FOLDERS and FOLDERS[name] in listing.folders:
            return cifar_source(root, name, "train" if part == "train" else "test")
    return open_path(path, wanted, insist=False)
