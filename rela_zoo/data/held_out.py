"""Labelled images in two parts, to learn from and to judge by, with one numbering of the classes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from rela_zoo.data._classes import class_numbers
from rela_zoo.data._source import ImageSource
from rela_zoo.errors import EmbeddingsError


class LabelledImages(Dataset):
    """Items (transform(image), label) of the labelled images of a source; those without a label are none of it.

    Args:
        source: the images.
        labels: (N,) int, one an image of the source; −1 for those to leave out.
        classes: their names.
        transform: of an RGB image; may be set later.
    """

    def __init__(
        self, source: ImageSource, labels: Sequence[int] | np.ndarray, classes: Sequence[str],
        transform: Callable[[Any], Any] | None = None,
    ) -> None:  # fmt: skip
        every = np.asarray(labels, np.int64)
        self.source, self.classes, self.transform = source, list(classes), transform
        self._indices = np.flatnonzero(every >= 0)
        self.labels = every[self._indices]

    def seen_through(self, transform: Callable[[Any], Any] | None) -> LabelledImages:
        """The same images with another transform."""
        other = copy.copy(self)
        other.transform = transform
        return other

    @cached_property
    def ids(self) -> list[str]:
        """Ids of the samples, in their order."""
        every = self.source.ids
        return [every[int(i)] for i in self._indices]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image: Any = self.source.image(int(self._indices[index]))
        return image if self.transform is None else self.transform(image), int(self.labels[index])


def labelled_parts(
    train: ImageSource, val: ImageSource | None = None, *, val_fraction: float = 0.2, seed: int = 0
) -> tuple[LabelledImages, LabelledImages]:
    """Images to learn from, and others to judge by.

    Args:
        train: labelled images.
        val: other labelled images of the same classes, known by their names; None holds out a part of `train`.
        val_fraction: of each class's images, in (0, 1), held out without `val`; of a class of one image none.
        seed: of the choice.

    Raises:
        EmbeddingsError: no labels, fewer than two classes, a class in `val` that `train` has not, the same images
            twice, or nothing to judge by.

    Examples:
        >>> from rela_zoo import image_source
        >>> train, val = labelled_parts(image_source("photos"), val_fraction=0.25)
        >>> len(train), len(val), train.classes == val.classes
        (180, 60, True)
    """
    labels = _labels(train)
    if len(np.unique(labels[labels >= 0])) < 2:
        raise EmbeddingsError(
            f"the {train.describe()} has labelled images of one class only", expected="at least two classes",
            got=", ".join(train.classes) or "none", fix="name a folder with one folder of images a class",
        )  # fmt: skip
    if val is None:
        held = _held_out(labels, val_fraction, seed)
        parts = (np.where(held, -1, labels), np.where(held, labels, -1))
        learn, judge = (LabelledImages(train, one, train.classes) for one in parts)
    else:
        if train.probe() == val.probe():
            raise EmbeddingsError(
                "the held-out images are those to learn from", expected="other images of the same classes",
                got=f"{val.describe()} twice", fix="leave --val out to hold out a part, or name another set",
            )  # fmt: skip
        learn, judge = LabelledImages(train, labels, train.classes), LabelledImages(val, *_renumbered(train, val))
    if not len(judge):
        raise EmbeddingsError(
            "there are no labelled images to judge by", expected="at least one", got="none",
            fix="raise --val-fraction, or name labelled images by --val",
        )  # fmt: skip
    return learn, judge


def _labels(source: ImageSource) -> np.ndarray:
    if source.labels is None:
        raise EmbeddingsError(
            f"the {source.describe()} has no labels", expected="class folders, or a column of labels", got="none",
            fix="name labelled images",
        )  # fmt: skip
    return np.asarray(source.labels, np.int64)


def _held_out(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """(N,) bool: the images to judge by, the same share of every class."""
    if not 0 < fraction < 1:
        raise EmbeddingsError("the part to hold out is no part", expected="a fraction in (0, 1)", got=fraction)
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels[labels >= 0]):
        own = np.flatnonzero(labels == label)
        count = min(max(1, round(len(own) * fraction)), len(own) - 1)
        held[np.random.default_rng([seed, int(label)]).permutation(own)[:count]] = True
    return held


def _renumbered(train: ImageSource, val: ImageSource) -> tuple[np.ndarray, Sequence[str]]:
    """The labels of `val` as positions in the classes of `train`."""
    labels = _labels(val)
    return class_numbers(train.classes, val.classes, labels)[labels], train.classes
