"""What every source of images has: ids that survive a reordering, and one RGB image an index."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rela_zoo.data._decode import UndecodableImageError, as_rgb, decode, decode_pixels
from rela_zoo.errors import EmbeddingsError

if TYPE_CHECKING:
    from PIL.Image import Image

_PROBES = 16
_BLOCK = 1 << 16  # ids encoded at once


@dataclass(frozen=True)
class LeftOut:
    """Images, or files that may be images, that lie in the data and are not in the source.

    Attributes:
        what: they are, in a few words: `directly in the folder`, `ending in .gif`, `split test`.
        count: of files, or of images for a split.
        example: the first one's name.
    """

    what: str
    count: int
    example: str


class Stamps(NamedTuple):
    """What the file system says about the files that hold images: enough to see that one may have been replaced.

    Attributes:
        values: (M, 2) int64, size in bytes and time of the last change in ns; (-1, 0) for a file that is not there.
        one_each: whether there is one file an image, in the order of the source; else files that hold many.
    """

    values: np.ndarray
    one_each: bool


class ImageSource(ABC):
    """N images with unique ids, in the data set's own index order; picklable, for workers.

    A subclass gives `ids`, `raw` and `describe`, and `image` where `raw` is not an encoded picture; where it has labels
    it calls `_label`, or overrides `labels` and `classes`.
    """

    _labels: Sequence[int] | None = None
    _classes: Sequence[str] = ()

    # What the opener has found and not taken; set by the kinds that look for images themselves.
    left_out: tuple[LeftOut, ...] = ()

    # Whether images are decoded when they are asked for; False where their pixels lie in memory.
    encoded: bool = True

    @property
    @abstractmethod
    def ids(self) -> Sequence[str]:
        """N unique strings: the relative path of a file, or "<index>:<digest of the pixels>"."""

    @abstractmethod
    def raw(self, index: int) -> bytes:
        """The bytes of one image as they are kept: the encoded file, or the pixels of an array."""

    @abstractmethod
    def describe(self) -> str:
        """One line for messages: the kind of source, where it is, how many images."""

    @property
    def labels(self) -> Sequence[int] | None:
        """N class numbers, positions in `classes` (−1 for an image without one); None for data without labels."""
        return self._labels

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes, or their numbers as text where they have none; empty without labels."""
        return self._classes

    def _label(self, labels: Sequence[int] | None, classes: Sequence[str] | None) -> None:
        """Keep the labels, if there are any, and the names of the classes: their numbers if none are given."""
        self._labels, self._classes = labels, [] if labels is None else list(classes or numbered(labels))

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, index: int) -> Image:
        """One image as RGB, un-augmented.

        Args:
            index: in [0, N).

        Raises:
            UndecodableImageError: the bytes are not a picture; the message names the image.
        """
        return decode(self.raw(index), lambda: self.ids[index])

    def image_of(self, raw: bytes, index: int) -> Image:
        """The image of bytes that `raw(index)` has given: for whoever needs both, and reads them once.

        Raises:
            UndecodableImageError: as `image`.
        """
        if type(self).image is not ImageSource.image:
            return self.image(index)
        return decode(raw, lambda: self.ids[index])

    def pixels_of(self, raw: bytes, index: int, wanted: Callable[[int, int], bool]) -> Image | np.ndarray:
        """As `image_of`, but an array (H, W, 3) uint8, not to be written to, where it is wanted: `decode_pixels`."""
        if type(self).image is ImageSource.image and type(self).image_of is ImageSource.image_of:
            return decode_pixels(raw, lambda: self.ids[index], wanted)
        image = self.image_of(raw, index)
        return np.asarray(as_rgb(image)) if wanted(image.height, image.width) else image

    def stamps(self) -> Stamps | None:
        """Sizes and times of the files; None where the ids name the pixels, so that no other picture can have them."""
        return None

    def probe(self) -> str:
        """Hex digest of the ids and of the bytes of 16 images evenly spaced in the order of ids.

        A name for the data set, found without reading it all; it may miss pictures that were exchanged under the same
        names, which `stamps` shows. The order of the data set plays no part, so that one folder gives one probe however
        it is listed.
        """
        ids = self.ids
        order = sorted(range(len(ids)), key=ids.__getitem__)
        digest = hashlib.sha256()
        for piece in encoded_ids(ids[i] for i in order):
            digest.update(piece)
        for position in sorted({round(p) for p in np.linspace(0, len(order) - 1, _PROBES)}) if order else []:
            try:
                raw = self.raw(order[position])
            except UndecodableImageError:  # a row without bytes: whether that may be is decided when rows are made
                raw = b""
            digest.update(hashlib.sha256(raw).digest())
        return digest.hexdigest()


def pixel_digest(pixels: np.ndarray) -> str:
    """RGB pixels (H, W, 3) uint8 → 16 hex digits of BLAKE2b, the content part of an array's sample id."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=8).hexdigest()


def content_digest(raw: bytes) -> bytes:
    """The bytes of one image as they are kept → 8 bytes of BLAKE2b."""
    return hashlib.blake2b(raw, digest_size=8).digest()


def encoded_ids(ids: Iterable[str]) -> Iterator[bytes]:
    """The canonical bytes of an id list, in pieces: each id as an ASCII JSON string, a newline after each."""
    left = iter(ids)
    while block := list(islice(left, _BLOCK)):
        # Line breaks within an id are escaped, so these are only those between two of them.
        yield json.dumps(block, separators=("\n", ":"))[1:-1].encode("ascii") + b"\n"


def ids_sha256(ids: Iterable[str]) -> str:
    """sha256, hex, of the canonical bytes of an id list."""
    digest = hashlib.sha256()
    for piece in encoded_ids(ids):
        digest.update(piece)
    return digest.hexdigest()


def check_unique(ids: Sequence[str], where: str) -> None:
    """Refuse an id list in which two samples share an id: rows could not be joined to images."""
    if len(set(ids)) == len(ids):
        return
    seen: set[str] = set()
    doubles = [one for one in ids if one in seen or seen.add(one)]  # type: ignore[func-returns-value]
    raise EmbeddingsError(
        f"{where} has {len(doubles)} samples whose id another sample has too",
        expected="one id a sample",
        got=", ".join(repr(one) for one in doubles[:3]),
        fix="remove the repeated samples",
    )


def numbered(labels: Sequence[int]) -> list[str]:
    """Names for classes that have none: their numbers, up to the largest."""
    return [str(i) for i in range(max(labels, default=-1) + 1)]


def integer_labels(values: object) -> list[int] | None:
    """Labels of a data set object as a list; None if they are no integers, one a sample."""
    try:
        found = np.asarray(values)
    except (TypeError, ValueError):
        return None
    return found.tolist() if found.ndim == 1 and found.dtype.kind in "iu" else None
