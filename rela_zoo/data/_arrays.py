"""Images in one array in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from rela_zoo.data._source import ImageSource, Stamps, pixel_digest
from rela_zoo.errors import EmbeddingsError

if TYPE_CHECKING:
    from PIL.Image import Image


class ArraySource(ImageSource):
    """A uint8 array of images; an id is "<index>:<16 hex digits of the RGB pixels>".

    Args:
        pixels: (N, H, W, 3), (N, 3, H, W) or grey (N, H, W), uint8. The last axis is taken for colour if it has 3.
        name: what to call it in messages.
        labels: a class number for each image, or None.
        classes: names of the classes; their numbers if none are given.

    Raises:
        EmbeddingsError: another dtype or shape, or no image.
    """

    encoded = False

    def __init__(
        self,
        pixels: np.ndarray,
        name: str = "array",
        labels: Sequence[int] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        pixels = np.asarray(pixels)
        colour_last = pixels.ndim == 4 and pixels.shape[-1] == 3
        colour_first = pixels.ndim == 4 and not colour_last and pixels.shape[1] == 3
        if pixels.dtype != np.uint8 or not (colour_last or colour_first or pixels.ndim == 3):
            raise EmbeddingsError(
                f"{name} is not a stack of images",
                expected="uint8 of shape (N, H, W, 3), (N, 3, H, W) or (N, H, W)",
                got=f"{pixels.dtype} of shape {pixels.shape}",
                fix="convert it, values 0 to 255",
            )
        if 0 in pixels.shape:
            raise EmbeddingsError(f"{name} has no images", expected="at least one", got=f"shape {pixels.shape}")
        self._pixels = pixels
        self._colour_first = colour_first
        self._name = name
        self._label(labels if labels is not None and len(labels) == len(pixels) else None, classes)

    def __len__(self) -> int:
        return len(self._pixels)

    @cached_property
    def _ids(self) -> list[str]:
        return [f"{i}:{pixel_digest(self._rgb(i))}" for i in range(len(self))]

    @property
    def ids(self) -> Sequence[str]:
        return self._ids

    def raw(self, index: int) -> bytes:
        return self._rgb(index).tobytes()

    def image(self, index: int) -> Image:
        from PIL import Image

        return Image.fromarray(self._rgb(index))

    def describe(self) -> str:
        return f"{self._name} of shape {tuple(self._pixels.shape)}"

    def _rgb(self, index: int) -> np.ndarray:
        """One image (H, W, 3) uint8, contiguous."""
        one = self._pixels[index]
        if one.ndim == 2:
            return np.repeat(one[:, :, None], 3, axis=2)
        return np.ascontiguousarray(one.transpose(1, 2, 0) if self._colour_first else one)


class SubsetSource(ImageSource):
    """Some images of another source, under the ids they have there.

    Args:
        whole: the source.
        indices: positions in it, in the order wanted.
    """

    def __init__(self, whole: ImageSource, indices: Sequence[int]) -> None:
        self._whole = whole
        self._indices = [int(i) for i in indices]
        self.left_out, self.encoded = whole.left_out, whole.encoded

    @cached_property
    def _ids(self) -> list[str]:
        ids = self._whole.ids
        return [ids[i] for i in self._indices]

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def ids(self) -> Sequence[str]:
        return self._ids

    @cached_property
    def labels(self) -> Sequence[int] | None:
        labels = self._whole.labels
        return None if labels is None else [labels[i] for i in self._indices]

    @property
    def classes(self) -> Sequence[str]:
        return self._whole.classes

    def raw(self, index: int) -> bytes:
        return self._whole.raw(self._indices[index])

    def image(self, index: int) -> Image:
        return self._whole.image(self._indices[index])

    def image_of(self, raw: bytes, index: int) -> Image:
        return self._whole.image_of(raw, self._indices[index])

    def pixels_of(self, raw: bytes, index: int, wanted: Callable[[int, int], bool]) -> Image | np.ndarray:
        if type(self).image_of is not SubsetSource.image_of:  # of a subclass, which may see to the image itself
            return super().pixels_of(raw, index, wanted)
        return self._whole.pixels_of(raw, self._indices[index], wanted)

    def stamps(self) -> Stamps | None:
        found = self._whole.stamps()
        if found is None or not found.one_each:
            return found
        return Stamps(found.values[self._indices], one_each=True)

    def describe(self) -> str:
        return f"{len(self)} of: {self._whole.describe()}"
