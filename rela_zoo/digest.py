"""sha256 of files: one reader for everything that is checked by hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

_PIECE = 4 << 20


def file_sha256(path: Path) -> str:
    """sha256 of a file, hex, read once in pieces.

    Raises:
        OSError: it can't be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
