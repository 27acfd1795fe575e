"""Numbers of each sample: reproducible, even, and unrelated to those of its neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from rela_zoo.data._chance import uniforms


def _slow(key: tuple[int, ...], index: int, count: int) -> list[float]:
    """SplitMix64 in Python's own integers."""
    import hashlib

    whole, golden = 2**64 - 1, 0x9E3779B97F4A7C15

    def mix(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & whole
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & whole
        return x ^ (x >> 31)

    shared = int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little")
    stream = mix(mix(index * golden & whole) ^ shared)
    return [(mix((stream + step * golden) & whole) >> 11) / 2**53 for step in range(1, count + 1)]


def test_it_is_splitmix64() -> None:
    # The first outputs of SplitMix64 seeded with 1234567, as published with the generator.
    from rela_zoo.data._chance import _GOLDEN, _mix

    steps = np.uint64(1234567) + np.arange(1, 4, dtype=np.uint64) * _GOLDEN
    assert _mix(steps).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_each_sample_has_its_own_numbers_in_any_batch() -> None:
    indices = np.array([5, 0, 10**9])
    found = uniforms((3, 1), indices, 4)
    for column, index in zip(found.T, indices.tolist(), strict=True):
        assert column.tolist() == _slow((3, 1), index, 4)
    assert np.array_equal(uniforms((3, 1), indices[1:2], 2)[:, 0], found[:2, 1])


def test_they_are_even_and_unrelated() -> None:
    found = np.stack([uniforms((0, epoch), np.arange(20_000), 6) for epoch in (0, 1)])
    rows = found.reshape(12, -1)
    counts = np.stack([np.histogram(row, 20, (0, 1))[0] for row in rows])
    # χ² with 19 degrees of freedom: beyond 55 once in 40,000.
    assert (((counts - 1000) ** 2 / 1000).sum(1) < 55).all()
    assert np.abs(np.corrcoef(rows) - np.eye(12)).max() < 0.035
    neighbours = [np.corrcoef(row[:-1], row[1:])[0, 1] for row in rows]
    assert np.abs(neighbours).max() < 0.035


@pytest.mark.parametrize("other", [(0, 1), (1, 0), (0, 0, 0)])
def test_the_key_decides(other: tuple[int, ...]) -> None:
    assert not np.intersect1d(uniforms((0, 0), np.arange(100), 5), uniforms(other, np.arange(100), 5)).size
