"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def atomic_write(path: Path, *pieces: bytes | memoryview, suffix: str | None = None, lasting: bool = True) -> None:
    """Write a file under another name, flush it to disk, then rename it: at no moment is half a file in its place.

    Args:
        path: in a folder that exists.
        pieces: the content.
        suffix: of the other name; by default one of this call alone. A fixed one lets the next run clear away what a
            killed run has left, where only one process writes.
        lasting: whether it must outlive a power cut. Flushing waits for whatever else is on its way to the disk.

    Raises:
        OSError: it can't be written; nothing is left behind.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp()) / "notes.txt"
        >>> atomic_write(path, b"all ", b"or nothing")
        >>> path.read_text()
        'all or nothing'
    """
    with atomic_path(path, suffix=suffix, lasting=lasting) as temporary, temporary.open("wb") as file:
        for piece in pieces:
            file.write(piece)


@contextmanager
def atomic_path(path: Path, *, suffix: str | None = None, lasting: bool = True) -> Iterator[Path]:
    """A path beside `path` for whatever writes to paths only; moved to `path` at the end, removed after an error.

    Args:
        path: in a folder that exists.
        suffix, lasting: as for `atomic_write`.

    Raises:
        OSError: it can't be flushed or moved; nothing is left behind.

    Examples:
        >>> import shutil
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp()) / "copy"
        >>> with atomic_path(path) as temporary:
        ...     _ = temporary.write_bytes(b"copied")
        >>> path.read_bytes()
        b'copied'
    """
    temporary = temporary_path(path, suffix)
    try:
        yield temporary
        if lasting:
            _flush(temporary)
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C, too
        with suppress(OSError):
            temporary.unlink()
        raise
    if lasting:
        _flush_folder(path.parent)


def temporary_path(path: Path, suffix: str | None = None) -> Path:
    """The other name of a file that is being written: its own name and a suffix, by default a new one each time."""
    return path.with_name(path.name + (suffix or f".{os.getpid()}-{secrets.token_hex(4)}.tmp"))


def _flush(path: Path) -> None:
    """Make a written file last through a power cut; a folder's files are left to the system."""
    if path.is_dir():
        return
    with path.open("rb+") as file:  # Windows flushes only what is open for writing
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Make the rename itself last through a power cut, where the system lets a folder be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
