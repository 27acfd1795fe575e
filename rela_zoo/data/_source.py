"""What every source of images has: ids that survive a reordering, and one RGB image an index."""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rela_zoo.errors import EmbeddingsError

if TYPE_CHECKING:
    from PIL.Image import Image

_PROBES = 16


class UndecodableImageError(EmbeddingsError):
    """One image of a source can't be decoded; the message names it."""


class ImageSource(ABC):
    """N images with unique ids, in the data set's own index order; picklable, for workers.

    A subclass gives `ids`, `raw` and `describe`, and `image` where `raw` is not an encoded picture.
    """

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

    def probe(self) -> str:
        """Hex digest of the ids and of the bytes of 16 images evenly spaced in the order of ids.

        It tells apart two folders with equal names and different pictures without reading them all. The order of
        the data set plays no part, so that one folder gives one probe however it is listed.
        """
        ids = self.ids
        order = sorted(range(len(ids)), key=ids.__getitem__)
        digest = hashlib.sha256(encode_ids([ids[i] for i in order]))
        for position in sorted({round(p) for p in np.linspace(0, len(order) - 1, _PROBES)}) if order else []:
            try:
                raw = self.raw(order[position])
            except UndecodableImageError:  # a row without bytes: whether that may be is decided when rows are made
                raw = b""
            digest.update(hashlib.sha256(raw).digest())
        return digest.hexdigest()


def decode(encoded: bytes, name: object) -> Image:
    """Bytes of a picture → RGB image. `name` is called, or used, for the error of bytes that are no picture."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded)) as picture:
            return picture.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on damaged bytes: OSError, struct.error, …
        raise UndecodableImageError(
            f"the image {name() if callable(name) else name!s} can't be decoded",
            expected="a picture that Pillow opens",
            got=f"{len(encoded)} bytes; {type(error).__name__}: {error}",
            fix="repair or remove it, or leave such images out with on_error='skip' (--skip-undecodable)",
        ) from error


def pixel_digest(pixels: np.ndarray) -> str:
    """RGB pixels (H, W, 3) uint8 → 16 hex digits of BLAKE2b, the content part of an array's sample id."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=8).hexdigest()


def encode_ids(ids: Sequence[str]) -> bytes:
    """The canonical bytes of an id list: each id as an ASCII JSON string, a newline after each."""
    from json.encoder import encode_basestring_ascii as quote

    return "".join([f"{quote(one)}\n" for one in ids]).encode("ascii")


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
