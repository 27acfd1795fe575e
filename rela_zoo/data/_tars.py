"""WebDataset tars, here or at addresses: an image is read from where it lies in its tar; nothing is extracted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rela_zoo.data._addresses import RemoteFile, shown
from rela_zoo.data._listing import EXTENSIONS
from rela_zoo.data._source import ImageSource, LeftOut, Stamps, check_unique
from rela_zoo.data._tar_index import damaged, is_address, read_indexes
from rela_zoo.errors import EmbeddingsError

# Of tars elsewhere: what is fetched ahead where images are asked for in order.
_AHEAD_IMAGES, _AHEAD_BYTES = 32, 4 << 20


class _Ahead(NamedTuple):
    """The image that was asked for last, and what was fetched of which tar, from which byte on."""

    image: int
    tar: int
    offset: int
    data: bytes


class TarSource(ImageSource):
    """The images of one or more tars in WebDataset's layout; an id is the sample's key.

    A key is the path of a file up to the first dot of its name; the files of a sample lie one after the other. Labels
    are the numbers in `.cls` files, −1 for samples without one. What lies where in a tar is read once, and kept in the
    cache of this package until the tar changes. Of a tar at an address nothing else is kept: images are read by range.

    Args:
        files: the tars, in order; paths, or addresses for fsspec.
        left_out: what else lies beside them.

    Raises:
        EmbeddingsError: a tar is damaged or compressed, has no images, a key twice, or a key with several images.
    """

    def __init__(self, files: Sequence[Path | str], left_out: tuple[LeftOut, ...] = ()) -> None:
        self._files = [str(one) for one in files]
        self._ahead: _Ahead | None = None
        opened = read_indexes(self._files)
        indexes = [index for index, _ in opened]
        self._stamps = np.array([stamp for _, stamp in opened], np.int64)
        self._ids = [key for one in indexes for key in one.keys]
        self._places = np.concatenate([one.places for one in indexes])
        self._tar = np.repeat(np.arange(len(indexes)), [len(one.keys) for one in indexes])
        if not self._ids:
            endings = sorted({key for one in indexes for key in one.without})
            raise EmbeddingsError(
                f"there are no images in {self._name()}", expected=f"files ending in {' '.join(EXTENSIONS)}",
                got=f"{len(endings)} samples without one, such as {endings[0]!r}" if endings else "an empty tar",
                fix="name tars that hold pictures",
            )  # fmt: skip
        check_unique(self._ids, self._name())
        without = [key for one in indexes for key in one.without]
        if without:
            left_out += (LeftOut("samples without an image", len(without), without[0]),)
        self.left_out = left_out
        labels = np.concatenate([one.labels for one in indexes])
        self._label(labels.tolist() if bool((labels >= 0).any()) else None, None)

    @property
    def ids(self) -> Sequence[str]:
        return self._ids

    def raw(self, index: int) -> bytes:
        path = self._files[self._tar[index]]
        offset, size = (int(one) for one in self._places[index])
        if is_address(path):
            return self._remote(index, path, offset, size)
        try:
            with open(path, "rb") as file:
                file.seek(offset)
                found = file.read(size)
        except OSError as error:
            raise EmbeddingsError(
                f"the tar {path} can't be read", expected="a readable file", got=error.strerror or str(error),
                fix="check that the file is still there and that you may read it",
            ) from error  # fmt: skip
        if len(found) != size:
            raise damaged(path, f"{len(found)} of the {size} bytes of {self._ids[index]!r}")
        return found

    def _remote(self, index: int, path: str, offset: int, size: int) -> bytes:
        """An image of a tar elsewhere; of images asked for one after the other many come at once."""
        before, tar = self._ahead, int(self._tar[index])
        if before is not None and before.tar == tar and offset >= before.offset:
            found = before.data[offset - before.offset : offset - before.offset + size]
            if len(found) == size:
                self._ahead = before._replace(image=index)
                return found
        stop = offset + size
        if before is not None and index == before.image + 1:
            for one in range(index + 1, min(index + _AHEAD_IMAGES, len(self))):
                end = int(self._places[one].sum())
                if self._tar[one] != tar or not stop <= end <= offset + _AHEAD_BYTES:
                    break
                stop = end
        found = RemoteFile(path).read(offset, stop - offset)
        if len(found) != stop - offset:
            raise damaged(shown(path), f"{len(found)} bytes where there were {stop - offset}: it was exchanged, or cut")
        self._ahead = _Ahead(index, tar, offset, found)
        return found[:size]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ahead": None}

    def stamps(self) -> Stamps:
        """Of the versions whose headers were read: a tar that is exchanged later differs when it is opened again."""
        return Stamps(self._stamps, one_each=False)

    def describe(self) -> str:
        return f"tar {self._name()} ({len(self)} images)"

    def _name(self) -> str:
        return shown(self._files[0]) + (f" and {len(self._files) - 1} more" if len(self._files) > 1 else "")
