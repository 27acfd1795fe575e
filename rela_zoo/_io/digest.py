"""Digests: sha256 of files, for everything checked by hash; and an order of samples that depends on nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path

_PIECE = 1 << 20


def file_sha256(path: Path) -> str:
    """sha256 of a file, hex, read once in pieces.

    Raises:
        OSError: it can't be read.
    """
    digest, piece = hashlib.sha256(), memoryview(bytearray(_PIECE))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(piece):
            digest.update(piece[:count])
    return digest.hexdigest()


def sample_order(sample: str) -> bytes:
    """A key that puts sample ids into an order without meaning, the same in every table: the first n are a sample."""
    return hashlib.blake2b(sample.encode(), digest_size=8).digest()
