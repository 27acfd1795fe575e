"""Uniform numbers that depend on (seed, epoch, index) alone: the same in any batch and on any machine.

SplitMix64 (Steele, Lea and Flood 2014, figure 16), one stream for each sample, as whole-array operations.
"""

from __future__ import annotations

import hashlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniforms(key: tuple[int, ...], indices: np.ndarray, count: int) -> np.ndarray:
    """Numbers of each sample.

    Args:
        key: what all samples share, such as (seed, epoch, view).
        indices: (B,) integers, of the samples.
        count: numbers a sample.

    Returns:
        (count, B) float64 on [0, 1); the first rows are the same whatever `count`.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    # Mixed twice, so that neighbouring indices do not give neighbouring stretches of one stream.
    streams = _mix(_mix(indices.astype(np.uint64) * _GOLDEN) ^ np.frombuffer(digest, "<u8"))
    steps = np.arange(1, count + 1, dtype=np.uint64)[:, None] * _GOLDEN
    return (_mix(streams + steps) >> np.uint64(11)) * 2.0**-53
