"""Images of data sets that can only be asked for items, and of several data sets one after the other."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from rela_zoo.data._decode import as_rgb
from rela_zoo.data._source import ImageSource, Stamps, check_unique, numbered, pixel_digest
from rela_zoo.errors import EmbeddingsError

if TYPE_CHECKING:
    from PIL.Image import Image

_IMAGE_KEYS = ("image", "img", "pixel_values", "jpg", "png", "webp")
_LABEL_KEYS = ("label", "labels", "fine_label", "target", "cls")
_ITEMS = "items that are, or begin with, a PIL image or a uint8 array (H, W, 3) or (H, W), then a class number"


class MapSource(ImageSource):
    """A map-style data set of whatever kind; an id is "<index>:<16 hex digits of the RGB pixels>", as of an array.

    Items are images, (image, label, …), or mappings with `image` and `label`. They must be the images themselves: a
    data set that transforms them at random has no lasting ids, and is refused. All items are read once, for the ids.

    Args:
        data: has a length and items by number; goes to workers by pickling.

    Raises:
        EmbeddingsError: no items, or items that are no images, or others each time.
    """

    encoded = False

    def __init__(self, data: Any) -> None:
        self._data, self._type = data, type(data).__name__
        if not len(data):
            raise EmbeddingsError(f"the data set {self._type} lists no images", expected="at least one", got="0")
        first = self._rgb(0)
        if pixel_digest(first) != pixel_digest(self._rgb(0)):
            raise EmbeddingsError(
                f"the data set {self._type} gives another image each time", expected="un-augmented images",
                got="two different readings of item 0", fix="make it without random transforms",
            )  # fmt: skip
        classes = getattr(data, "classes", None)
        self._class_names = [str(one) for one in classes] if isinstance(classes, list | tuple) else None

    def __len__(self) -> int:
        return len(self._data)

    @cached_property
    def _read(self) -> tuple[list[str], list[int] | None]:
        """Ids, and labels if every item has one."""
        ids, labels = [], []
        for index in range(len(self)):
            image, label = _parts(self._data[index])
            ids.append(f"{index}:{pixel_digest(self._pixels(image, index))}")
            labels.append(label)
        known = [one for one in labels if one is not None]
        return ids, known if len(known) == len(ids) else None

    @property
    def ids(self) -> Sequence[str]:
        return self._read[0]

    @property
    def labels(self) -> Sequence[int] | None:
        return self._read[1]

    @property
    def classes(self) -> Sequence[str]:
        labels = self.labels
        return [] if labels is None else self._class_names or numbered(labels)

    def raw(self, index: int) -> bytes:
        return self._rgb(index).tobytes()

    def image(self, index: int) -> Image:
        from PIL import Image

        return Image.fromarray(self._rgb(index))

    def describe(self) -> str:
        return f"data set {self._type} ({len(self)} images)"

    def _rgb(self, index: int) -> np.ndarray:
        return self._pixels(_parts(self._data[index])[0], index)

    def _pixels(self, image: Any, index: int) -> np.ndarray:
        """(H, W, 3) uint8 of whatever an item holds."""
        from PIL import Image

        if isinstance(image, Image.Image):
            return np.asarray(as_rgb(image, f"{index} of {self._type}"))
        if hasattr(image, "__array__"):
            array = np.asarray(image)
            if array.dtype == np.uint8:
                if array.ndim == 3 and array.shape[-1] != 3 and array.shape[0] == 3:
                    array = array.transpose(1, 2, 0)
                if array.ndim == 2:
                    array = np.repeat(array[:, :, None], 3, axis=2)
                if array.ndim == 3 and array.shape[-1] == 3:
                    return np.ascontiguousarray(array)
            got = f"{array.dtype} of shape {array.shape}"
        else:
            got = type(image).__name__
        raise EmbeddingsError(
            f"item {index} of the data set {self._type} is no image", expected=_ITEMS, got=got,
            fix="make it without a transform to tensors, or give its folder or its file",
        )  # fmt: skip


def _parts(item: Any) -> tuple[Any, int | None]:
    """Image and label of an item."""
    image, label = item, None
    if isinstance(item, Mapping):
        image = next((item[key] for key in _IMAGE_KEYS if key in item), None)
        label = next((item[key] for key in _LABEL_KEYS if key in item), None)
    elif isinstance(item, tuple | list) and item:
        image, label = item[0], item[1] if len(item) > 1 else None
    whole = np.asarray(label) if isinstance(label, int | np.integer) or hasattr(label, "__array__") else None
    known = whole is not None and whole.ndim == 0 and whole.dtype.kind in "iu"
    return image, int(whole) if known and whole is not None else None


class ConcatSource(ImageSource):
    """Several sources one after the other, under the ids that the images have in them.

    Args:
        parts: at least one.

    Raises:
        EmbeddingsError: no part, or an id in two of them.
    """

    def __init__(self, parts: Sequence[ImageSource]) -> None:
        if not parts:
            raise EmbeddingsError("the data are none", expected="at least one data set", got="none")
        self._parts = list(parts)
        self._starts = [0, *accumulate(len(one) for one in self._parts)]
        self.left_out = tuple(one for part in self._parts for one in part.left_out)
        self.encoded = any(one.encoded for one in self._parts)

    def __len__(self) -> int:
        return self._starts[-1]

    @cached_property
    def _ids(self) -> list[str]:
        ids = [one for part in self._parts for one in part.ids]
        check_unique(ids, " + ".join(part.describe() for part in self._parts))
        return ids

    @property
    def ids(self) -> Sequence[str]:
        return self._ids

    @cached_property
    def labels(self) -> Sequence[int] | None:
        found: list[int] = []
        for part in self._parts:
            if part.labels is None:
                return None
            found += part.labels
        _ = self.classes
        return found

    @cached_property
    def classes(self) -> Sequence[str]:
        kinds = [list(part.classes) for part in self._parts if part.labels is not None]
        if len(kinds) < len(self._parts):
            return []
        longest = max(kinds, key=len)
        # Classes without names are numbered as far as their part goes.
        if any(one != longest and one != [str(i) for i in range(len(one))] for one in kinds):
            raise EmbeddingsError(
                "the parts of the data have different classes", expected="the same ones, in the same order",
                got=" and ".join(", ".join(one[:4]) for one in kinds[:2]), fix="do without labels, or renumber them",
            )  # fmt: skip
        return longest

    def _at(self, index: int) -> tuple[ImageSource, int]:
        number = bisect.bisect_right(self._starts, index) - 1
        return self._parts[number], index - self._starts[number]

    def raw(self, index: int) -> bytes:
        part, inside = self._at(index)
        return part.raw(inside)

    def image(self, index: int) -> Image:
        part, inside = self._at(index)
        return part.image(inside)

    def image_of(self, raw: bytes, index: int) -> Image:
        part, inside = self._at(index)
        return part.image_of(raw, inside)

    def pixels_of(self, raw: bytes, index: int, wanted: Callable[[int, int], bool]) -> Image | np.ndarray:
        if type(self).image_of is not ConcatSource.image_of:  # of a subclass, which may see to the image itself
            return super().pixels_of(raw, index, wanted)
        part, inside = self._at(index)
        return part.pixels_of(raw, inside, wanted)

    def stamps(self) -> Stamps | None:
        found = [one.stamps() for one in self._parts]
        known = [one for one in found if one is not None]
        if not known:
            return None
        each = len(known) == len(found) and all(one.one_each for one in known)
        return Stamps(np.concatenate([one.values for one in known]), one_each=each)

    def describe(self) -> str:
        return f"{len(self._parts)} data sets ({len(self)} images), the first: {self._parts[0].describe()}"
