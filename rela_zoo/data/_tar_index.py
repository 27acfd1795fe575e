"""What lies where in a tar of WebDataset: read once from its headers, and kept until the tar changes."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np

from rela_zoo._io import paths
from rela_zoo._io.files import atomic_write
from rela_zoo._io.progress import Progress
from rela_zoo.data._addresses import RemoteFile, shown
from rela_zoo.data._listing import EXTENSIONS
from rela_zoo.errors import EmbeddingsError

_LABEL = "cls"
_LONGEST_LABEL = 32
_BLOCK = tarfile.BLOCKSIZE
_FORMAT = 1
_THREADS = 8  # tars elsewhere that are looked through at once


@dataclass(frozen=True)
class TarIndex:
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


def damaged(path: str, got: str) -> EmbeddingsError:
    return EmbeddingsError(
        f"the tar {path} is damaged or cut short", expected="a whole tar", got=got, fix="download or write it again"
    )


def is_address(path: str) -> bool:
    return "://" in path


def read_indexes(files: Sequence[str]) -> list[tuple[TarIndex, tuple[int, int]]]:
    """What the tars hold, and the stamps of the versions that were looked through; elsewhere several at a time.

    A stamp is the size in bytes and the time of the last change in ns; for a tar elsewhere, in place of the time, the
    digest of what the server says of the version.
    """
    if not any(map(is_address, files)):
        return [_index(path) for path in files]
    found = []
    with Progress("looking through tars", len(files), unit="tars") as bar, ThreadPoolExecutor(_THREADS) as pool:
        for one in pool.map(_index, files):
            found.append(one)
            bar.advance(1)
    return found


def _index(path: str) -> tuple[TarIndex, tuple[int, int]]:
    """What a tar holds, from the cache if it has not changed since."""
    if is_address(path):
        size, mark = RemoteFile(path).facts()
        stamp = f"{_FORMAT} {path} {size} {mark}"
        version = int.from_bytes(hashlib.sha256(mark.encode()).digest()[:7], "big")
        return _kept(stamp, path) if mark else _read_index(path), (size, version)
    try:
        state = os.stat(path)
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from error
    found = _kept(f"{_FORMAT} {os.path.realpath(path)} {state.st_size} {state.st_mtime_ns}", path)
    return found, (state.st_size, state.st_mtime_ns)


def _kept(stamp: str, path: str) -> TarIndex:
    """The index of a tar in this state, from the cache, or written there."""
    note = paths.artefact_cache() / "tars" / f"{hashlib.sha256(_encoded(stamp)).hexdigest()[:32]}.npz"
    # A damaged note, on which zipfile and NumPy raise almost anything, is written anew.
    with suppress(Exception), np.load(note, allow_pickle=False) as kept:
        samples, others = (_lines(bytes(kept[name])) for name in ("keys", "without"))
        if len(samples) == len(kept["places"]) == len(kept["labels"]):
            return TarIndex(samples, kept["places"], kept["labels"], others)
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


def _read_index(path: str) -> TarIndex:
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
                        raise damaged(path, f"the end of the file within {member.name!r}")
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
            raise damaged(path, f"{type(error).__name__}: {error}") from error
        # `tarfile` takes a header that it can't read for the end, and the end of the file, too.
        raw.seek(end)
        mark = raw.read(_BLOCK)
        if len(mark) < _BLOCK or any(mark):
            raise damaged(path, f"neither a header nor the mark of the end at byte {end:,}")
    return TarIndex(keys, np.array(places, np.int64).reshape(-1, 2), np.array(labels, np.int64), without)


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    if is_address(path):
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
