"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def atomic_write(path: Path, *pieces: bytes | memoryview, suffix: str | None = None) -> None:
    """Write a file under another name, flush it to disk, then rename it: at no moment is half a file in its place.

    Args:
        path: in a folder that exists.
        pieces: the content.
        suffix: of the other name; by default one of this process alone.

    Raises:
        OSError: it can't be written.
    """
    temporary = path.with_name(path.name + (suffix or f".{os.getpid()}.tmp"))
    try:
        with temporary.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C, too
        with suppress(OSError):
            temporary.unlink()
        raise
    _flush_folder(path.parent)


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
