"""WebDataset tars, here or at addresses: an image is read from where it lies in its tar; nothing is extracted."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rela_zoo._io import paths
from rela_zoo._io.files import atomic_write
from rela_zoo._io.progress import Progress
from rela_zoo.data._addresses import RemoteFile, shown
from rela_zoo.data._listing import EXTENSIONS
from rela_zoo.data._source import ImageSource, LeftOut, Stamps, check_unique
from rela_zoo.data._stamps import file_stamps
from rela_zoo.errors import EmbeddingsError

SUFFIX = ".tar"
_LABEL = "cls"
_LONGEST_LABEL = 32
_BLOCK = tarfile.BLOCKSIZE
_FORMAT = 1
# Of tars elsewhere: how many are looked through at once, and what is fetched ahead where images are asked for in order.
_THREADS = 8
_AHEAD_IMAGES, _AHEAD_BYTES = 32, 4 << 20


@dataclass(frozen=True)
class _Index:
    """What a tar holds, by number of sample.

    Attributes:
        keys: of the samples that have an image.
        places: (n, 2) int64, offset and size of the image's bytes.
        labels: (n,) int64; −1 where there is none.
        without: keys of samples without an image.
    """

    keys: list[str]
    places: np.ndarray
    labels: np.ndarray
    without: list[str]


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
        indexes = _indexes(self._files)
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
        if _is_address(path):
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
            raise _damaged(path, f"{len(found)} of the {size} bytes of {self._ids[index]!r}")
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
            raise _damaged(
                shown(path), f"{len(found)} bytes where there were {stop - offset}: it was exchanged, or cut"
            )
        self._ahead = _Ahead(index, tar, offset, found)
        return found[:size]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ahead": None}

    def stamps(self) -> Stamps:
        if not any(map(_is_address, self._files)):
            return Stamps(file_stamps(self._files), one_each=False)
        # In place of a time the digest of what the server says of the version.
        facts = [RemoteFile(one).facts() for one in self._files]
        marks = [int.from_bytes(hashlib.sha256(mark.encode()).digest()[:7], "big") for _, mark in facts]
        values = [(size, mark) for (size, _), mark in zip(facts, marks, strict=True)]
        return Stamps(np.array(values, np.int64), one_each=False)

    def describe(self) -> str:
        return f"tar {self._name()} ({len(self)} images)"

    def _name(self) -> str:
        return shown(self._files[0]) + (f" and {len(self._files) - 1} more" if len(self._files) > 1 else "")


def _damaged(path: str, got: str) -> EmbeddingsError:
    return EmbeddingsError(
        f"the tar {path} is damaged or cut short", expected="a whole tar", got=got, fix="download or write it again"
    )


def _is_address(path: str) -> bool:
    return "://" in path


def _indexes(files: Sequence[str]) -> list[_Index]:
    """What the tars hold. Those elsewhere are looked through several at a time."""
    if not any(map(_is_address, files)):
        return [_index(path) for path in files]
    found = []
    with Progress("looking through tars", len(files), unit="tars") as bar, ThreadPoolExecutor(_THREADS) as pool:
        for one in pool.map(_index, files):
            found.append(one)
            bar.advance(1)
    return found


def _index(path: str) -> _Index:
    """What a tar holds, from the cache if it has not changed since."""
    if _is_address(path):
        size, mark = RemoteFile(path).facts()
        stamp = f"{_FORMAT} {path} {size} {mark}"
        return _kept(stamp, path) if mark else _read_index(path)
    try:
        state = os.stat(path)
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    return _kept(f"{_FORMAT} {os.path.realpath(path)} {state.st_size} {state.st_mtime_ns}", path)


def _kept(stamp: str, path: str) -> _Index:
    """The index of a tar in this state, from the cache, or written there."""
    note = paths.artefact_cache() / "tars" / f"{hashlib.sha256(_encoded(stamp)).hexdigest()[:32]}.npz"
    # A damaged note, on which zipfile and NumPy raise almost anything, is written anew.
    with suppress(Exception), np.load(note, allow_pickle=False) as kept:
        samples, others = (_lines(bytes(kept[name])) for name in ("keys", "without"))
        if len(samples) == len(kept["places"]) == len(kept["labels"]):
            return _Index(samples, kept["places"], kept["labels"], others)
    found = _read_index(path)
    buffer = BytesIO()
    keys, without = (np.frombuffer(_encoded("\n".join(one)), np.uint8) for one in (found.keys, found.without))
    np.savez(buffer, places=found.places, labels=found.labels, keys=keys, without=without)
    with suppress(OSError):  # a home that can't be written costs time, nothing else
        note.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(note, buffer.getvalue())
    return found


def _encoded(text: str) -> bytes:
    """Names that are no UTF-8 stay what they are."""
    return text.encode("utf-8", "surrogateescape")


def _lines(data: bytes) -> list[str]:
    return data.decode("utf-8", "surrogateescape").split("\n") if data else []


def _read_index(path: str) -> _Index:
    """Read the headers of a tar, and the labels.

    Raises:
        EmbeddingsError: as `TarSource`.
    """
    keys: list[str] = []
    places: list[tuple[int, int]] = []
    labels: list[int] = []
    without: list[str] = []
    endings: set[str] = set()  # of the sample at hand
    seen: set[str] = set()
    current, image, label = None, None, -1

    def close() -> None:
        if current is None:
            return
        if image is None:
            without.append(current)
        else:
            keys.append(current)
            places.append(image)
            labels.append(label)

    with _opened(path) as raw:
        path = shown(path)
        _refuse_compressed(path, raw.read(6))
        size = raw.seek(0, os.SEEK_END)
        raw.seek(0)
        try:
            with tarfile.open(fileobj=raw, mode="r:") as tar:
                for member in tar:
                    tar.members = []  # type: ignore[attr-defined]  # else every header is kept
                    key, ending = _split(member.name)
                    if not member.isreg() or key is None:
                        continue
                    if member.offset_data + member.size > size:
                        raise _damaged(path, f"the end of the file within {member.name!r}")
                    if key != current:
                        close()
                        if key in seen:
                            raise _twice(path, key)
                        seen.add(key)
                        current, image, label = key, None, -1
                        endings.clear()
                    if ending in endings:
                        raise _twice(path, f"{key}.{ending}")
                    endings.add(ending)
                    if f".{ending}".endswith(EXTENSIONS):
                        if image is not None:
                            raise _two_images(path, key, endings)
                        image = (member.offset_data, member.size)
                    elif ending == _LABEL:
                        label = _label_of(path, tar, member)
                close()
                end = tar.offset
        except tarfile.TarError as error:
            raise _damaged(path, f"{type(error).__name__}: {error}") from error
        # `tarfile` takes a header that it can't read for the end, and the end of the file, too.
        raw.seek(end)
        mark = raw.read(_BLOCK)
        if len(mark) < _BLOCK or any(mark):
            raise _damaged(path, f"neither a header nor the mark of the end at byte {end:,}")
    return _Index(keys, np.array(places, np.int64).reshape(-1, 2), np.array(labels, np.int64), without)


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    if _is_address(path):
        with RemoteFile(path).open() as file:
            yield file
    else:
        with open(path, "rb") as file:
            yield file


def _split(name: str) -> tuple[str | None, str]:
    """`./a/0001.seg.PNG` → (`a/0001`, `seg.png`); no key for hidden files and those without an ending."""
    folder, _, base = name.removeprefix("./").rpartition("/")
    stem, dot, ending = base.partition(".")
    if not stem or not dot or "\n" in name:
        return None, ""
    return (f"{folder}/{stem}" if folder else stem), ending.lower()


def _label_of(path: str, tar: tarfile.TarFile, member: tarfile.TarInfo) -> int:
    file = tar.extractfile(member) if member.size <= _LONGEST_LABEL else None
    text = file.read().decode("ascii", "replace").strip() if file is not None else ""
    if not text.isdecimal():
        raise EmbeddingsError(
            f"{member.name} of {path} is no label", expected="the number of a class in digits",
            got=repr(text) if text else f"{member.size} bytes", fix="write the numbers of the classes into .cls files",
        )  # fmt: skip
    return int(text)


def _refuse_compressed(path: str, start: bytes) -> None:
    kinds = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstandard"}
    kind = next((name for magic, name in kinds.items() if start.startswith(magic)), None)
    if kind is not None:
        raise EmbeddingsError(
            f"the tar {path} is compressed", expected="a plain tar, in which every image can be reached by itself",
            got=kind, fix="unpack the compression (gunzip, unzstd, …), not the tar; pictures are compressed already",
        )  # fmt: skip


def _twice(path: str, name: str) -> EmbeddingsError:
    return EmbeddingsError(
        f"{path} has {name!r} twice", expected="one sample a key, its files one after the other", got=name,
        fix="write the tar anew with keys that differ",
    )  # fmt: skip


def _two_images(path: str, key: str, endings: set[str]) -> EmbeddingsError:
    return EmbeddingsError(
        f"{key!r} of {path} has several images", expected="one image a key, or it is not known which one is meant",
        got=", ".join(sorted(endings)), fix="write tars with one image a key",
    )  # fmt: skip
