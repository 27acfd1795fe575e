"""The images of stable-pretraining's data sets, known by lasting ids: never by `sample_idx` alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Subset

from rela_zoo.data import ImageSource, as_rgb, check_unique, decode, image_source, pixel_digest, relative_ids
from rela_zoo.errors import EmbeddingsError

_COMPARED = 8


class HuggingFaceSource(ImageSource):
    """A map-style data set of the `datasets` library.

    Ids are those of the same images in parquet files or in a folder: the path where every row has one and all differ
    (of files on disk, relative to the folder that holds them all); else "<row>:<digest of the pixels>", the row being
    `sample_idx`, which stays with its image when the data set is shuffled.

    Args:
        dataset: the rows, in the order of training.
        column: of the images.

    Raises:
        EmbeddingsError: the column holds no images.
    """

    def __init__(self, dataset: Any, column: str) -> None:
        from datasets import Image

        if not isinstance(dataset.features.get(column), Image):
            listed = ", ".join(f"{name}: {type(kind).__name__}" for name, kind in dataset.features.items())
            raise EmbeddingsError(
                f"the data set has no images under {column!r}",
                expected="a column of the Image feature",
                got=listed,
                fix="name it: accelerate(…, image=COLUMN), or rename it with rename_columns",
            )
        self._column = column
        numbers = ["sample_idx"] if "sample_idx" in dataset.column_names else []
        self._rows = dataset.select_columns([column, *numbers]).cast_column(column, Image(decode=False))

    def __len__(self) -> int:
        return len(self._rows)

    @cached_property
    def _ids(self) -> list[str]:
        import pyarrow.compute as pc

        paths: list[str | None] = []
        numbers: list[int] = []
        for batch in self._rows.with_format("arrow").iter(1000):
            paths += pc.struct_field(batch[self._column], "path").to_pylist()
            if "sample_idx" in batch.column_names:
                numbers += batch["sample_idx"].to_pylist()
        if all(paths) and len(set(paths)) == len(paths):
            names = [str(one) for one in paths]
            # Files on disk are known by where they lie within their folder, as `image_source(folder)` knows them.
            on_disk = len(names) > 1 and all(map(os.path.isabs, names))
            return relative_ids(os.path.commonpath(names), names) if on_disk else names
        ids = [f"{number}:{self._digest(i)}" for i, number in enumerate(numbers or range(len(self)))]
        check_unique(ids, self.describe())
        return ids

    @property
    def ids(self) -> Sequence[str]:
        return self._ids

    def raw(self, index: int) -> bytes:
        cell = self._rows[index][self._column]
        return bytes(cell["bytes"]) if cell["bytes"] is not None else Path(cell["path"]).read_bytes()

    def describe(self) -> str:
        return f"a Hugging Face data set of {len(self)} images"

    def _digest(self, index: int) -> str:
        return pixel_digest(np.asarray(decode(self.raw(index), f"row {index}")))


def spt_source(dataset: Any, image: str) -> ImageSource:
    """The images of a data set of stable-pretraining, in its order.

    Args:
        dataset: an `HFDataset` that is no stream; a `FromTorchDataset` or `DictFormat` over a data set that
            `image_source` reads; a `Subset` of one; or anything that `image_source` reads itself.
        image: key of the images.

    Raises:
        EmbeddingsError: another kind of data set; or what is wrong with the images.
    """
    if hasattr(dataset, "indices") and hasattr(dataset, "dataset"):
        whole: Any = spt_source(dataset.dataset, image)
        return image_source(Subset(whole, dataset.indices))
    inner = getattr(dataset, "dataset", None)
    if hasattr(inner, "features") and hasattr(inner, "select_columns"):
        return HuggingFaceSource(inner, image)
    try:
        return image_source(dataset if inner is None else inner)
    except EmbeddingsError as error:
        raise EmbeddingsError(
            f"the samples of {type(dataset).__name__} can't be joined to the prior's rows: {error.what}",
            expected="an HFDataset, or a FromTorchDataset over files or an array; or the images beside it",
            got=error.got,
            fix="give the same images in the same order: accelerate(…, source=FOLDER, PARQUET FILE or ARRAY)",
        ) from error


def check_order(dataset: Any, owner: Any, source: ImageSource, image: str) -> None:
    """Compare a few images of a data set with those that the user has given as its source.

    Args:
        dataset: of dictionaries.
        owner: itself, or the data set within whose `transform` it applies.
        source: as given.
        image: key of the images.

    Raises:
        EmbeddingsError: most of them differ.
    """
    from rela_zoo.hosts.stable_pretraining._views import to_picture

    positions = sorted({round(one) for one in np.linspace(0, len(dataset) - 1, _COMPARED)})
    before, owner.transform = owner.transform, None
    try:
        own = [pixel_digest(np.asarray(as_rgb(to_picture(dataset[i][image])))) for i in positions]
    finally:
        owner.transform = before
    given = [pixel_digest(np.asarray(source.image(i))) for i in positions]
    # Not all: libraries differ in what they do about an image's stored orientation.
    if sum(one != two for one, two in zip(own, given, strict=True)) > len(positions) // 2:
        raise EmbeddingsError(
            "`source` lists other images than the data set, or the same in another order",
            expected=f"the pixels of samples {', '.join(map(str, positions))} to be the same in both",
            got="others",
            fix="give the images that the data set was made of, in its order, before shuffling",
        )
