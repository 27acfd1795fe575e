"""Sizes and times of many files, asked for at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

# A network file system answers many questions at once; on a local disk the threads cost nothing to speak of.
_THREADS = 16
_PIECE = 4096


def file_stamps(paths: Sequence[str], root: str = "") -> np.ndarray:
    """(len(paths), 2) int64: size in bytes and time of the last change in ns; (-1, 0) where there is no such file.

    Args:
        paths: of the files; links are followed.
        root: put before each.
    """
    prefix = os.path.join(root, "") if root else ""
    pieces = [paths[start : start + _PIECE] for start in range(0, len(paths), _PIECE)]

    def ask(piece: Sequence[str]) -> np.ndarray:
        return np.array([_stamp(prefix + one) for one in piece], np.int64).reshape(-1, 2)

    if len(pieces) <= 1:
        return ask(paths)
    with ThreadPoolExecutor(_THREADS) as pool:
        return np.concatenate(list(pool.map(ask, pieces)))


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return -1, 0
    return found.st_size, found.st_mtime_ns
