"""Whether the pictures are still those that rows were made of: sizes, times and digests, kept beside the rows.

`.pictures.npz` belongs to this machine: it is neither published nor part of the artefact. In the order of sorted ids:
`stamps` (N or number of files, 2), `one_each`, and `digests` (N, 8), `content_digest` of each image, zeros where an
image could not be read; empty until the extraction is finished.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rela_zoo._io.files import atomic_write
from rela_zoo._io.log import logger
from rela_zoo._io.progress import Progress
from rela_zoo.data import ImageSource, Stamps, content_digest
from rela_zoo.embeddings._format import INDEX
from rela_zoo.errors import EmbeddingsError

RECORD = ".pictures.npz"
# A fixed one: what a killed run has left under it is written over by the next.
_TEMPORARY = ".tmp"
log = logger(__name__)


class _Record(NamedTuple):
    stamps: np.ndarray
    one_each: bool
    digests: np.ndarray


def digest_of(source: ImageSource, index: int) -> bytes:
    """`content_digest` of one image; eight zero bytes where it can't be read."""
    try:
        return content_digest(source.raw(index))
    except EmbeddingsError:
        return bytes(8)


def write_record(folder: Path, ids: Sequence[str], stamps: Stamps | None, digests: Sequence[bytes] = ()) -> None:
    """Keep what the pictures were; nothing where the ids say it.

    Args:
        folder: of the rows.
        ids: of the source.
        stamps: of the source, from before the first image was read.
        digests: of each image, in the source's order; none yet at the start of an extraction.
    """
    if stamps is None:
        return
    order = _order(ids)
    values = stamps.values[order] if stamps.one_each else stamps.values
    # An extraction that is not finished has no digests: rows of other pictures are then made anew.
    known = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 8)
    _write(folder / RECORD, _Record(values, stamps.one_each, known[order] if len(known) else known))


def changed_pictures(folder: Path, source: ImageSource) -> list[str]:
    """Ids of images that are not those that the rows in a folder were made of.

    A file of another size is another picture; one of another time may be, and is read and compared. Rows from before
    such records were kept are known by their own time: a file that is newer is another picture.

    Args:
        folder: with the rows, finished or not.
        source: of the same ids.
    """
    stamps = source.stamps()
    if stamps is None:
        return []
    order = _order(source.ids)
    values = stamps.values[order] if stamps.one_each else stamps.values
    record = _read(folder / RECORD)
    if record is None:
        made = folder / INDEX
        newer = values[:, 1] > made.stat().st_mtime_ns if made.is_file() else np.zeros(len(values), bool)
        places = np.flatnonzero(newer) if stamps.one_each else np.arange(int(newer.any()))
        return [source.ids[int(order[i])] for i in places]
    if record.one_each != stamps.one_each or record.stamps.shape != values.shape:
        return list(source.ids)
    differ = (record.stamps != values).any(1)
    if not differ.any():
        return []
    places = np.flatnonzero(differ) if stamps.one_each else np.arange(len(order))
    if not len(record.digests):  # unfinished
        return [source.ids[int(order[i])] for i in places]
    changed = []
    resized = record.stamps[:, 0] != values[:, 0]
    with Progress("comparing pictures with those embedded", len(places), unit="images") as bar:
        for place in places:
            position = int(order[place])
            other_size = stamps.one_each and resized[place]
            if other_size or digest_of(source, position) != record.digests[place].tobytes():
                changed.append(source.ids[position])
            bar.advance(1)
    if not changed:  # touched or copied, the same: next time nothing has to be read
        with suppress(OSError):
            _write(folder / RECORD, _Record(values, stamps.one_each, record.digests))
    return changed


def all_digests(source: ImageSource) -> str:
    """sha256, hex, of the digests of all images in the order of ids; reads every one."""
    found = hashlib.sha256()
    with Progress("comparing pictures with those embedded", len(source), unit="images") as bar:
        for position in _order(source.ids):
            found.update(digest_of(source, int(position)))
            bar.advance(1)
    return found.hexdigest()


def refuse_changed(folder: Path, source: ImageSource) -> None:
    """Refuse rows that were made of other pictures.

    Raises:
        EmbeddingsError: with their number and the first one's id.
    """
    changed = changed_pictures(folder, source)
    if changed:
        raise EmbeddingsError(
            f"{folder} holds embeddings of something else: the pictures differ, under the same names",
            expected=f"the {len(source)} images that it was made of",
            got=f"{len(changed)} others, such as {changed[0]!r}",
            fix="give another folder, or remove this one to make it anew",
        )


def _order(ids: Sequence[str]) -> np.ndarray:
    return np.array(sorted(range(len(ids)), key=ids.__getitem__), np.int64)


def _write(path: Path, record: _Record) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, stamps=record.stamps, one_each=np.array(record.one_each), digests=record.digests)
    atomic_write(path, buffer.getbuffer(), suffix=_TEMPORARY)


def _read(path: Path) -> _Record | None:
    try:
        with np.load(path, allow_pickle=False) as found:
            record = _Record(found["stamps"], bool(found["one_each"]), found["digests"])
    except (OSError, ValueError, KeyError, EOFError):
        return None
    good = record.stamps.ndim == 2 and record.stamps.dtype == np.int64 and record.digests.dtype == np.uint8
    return record if good else None
