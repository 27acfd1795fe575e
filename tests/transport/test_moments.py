"""Streaming moments against numpy on the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rela_zoo.errors import TransportError
from rela_zoo.transport import chunk_moments, merge_moments


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 40), min_size=1, max_size=6), st.floats(0, 1e6))
def test_pieces_merge_to_the_whole(seed: int, sizes: list[int], offset: float) -> None:
    rows = np.random.default_rng(seed).normal(size=(sum(sizes), 5)) + offset
    merged = None
    for piece in torch.from_numpy(rows).split(sizes):
        one = chunk_moments(piece)
        merged = one if merged is None else merge_moments(merged, one)
    assert merged is not None
    assert merged.rows == len(rows)
    np.testing.assert_allclose(merged.mean.numpy(), rows.mean(0), rtol=1e-12, atol=1e-12)
    centred = rows - rows.mean(0)
    np.testing.assert_allclose(merged.scatter.numpy(), centred.T @ centred, rtol=1e-7, atol=1e-7)


def test_a_mean_far_larger_than_the_deviation_costs_nothing() -> None:
    """Raw sums of squares would leave no digit here: 1e8 squared is 1e16, the precision of float64."""
    rows = np.random.default_rng(0).normal(size=(1000, 3)) + 1e8
    merged = None
    for piece in torch.from_numpy(rows).split(64):
        one = chunk_moments(piece)
        merged = one if merged is None else merge_moments(merged, one)
    assert merged is not None
    np.testing.assert_allclose(merged.covariance.numpy(), np.cov(rows.T, bias=True), rtol=1e-6, atol=1e-8)


def test_rows_are_not_changed() -> None:
    rows = torch.randn(5, 3, dtype=torch.float64)
    before = rows.clone()
    chunk_moments(rows)
    assert torch.equal(rows, before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_not_finite(bad: float) -> None:
    rows = torch.zeros(5, 3)
    rows[3, 1] = bad
    with pytest.raises(TransportError, match="not finite") as caught:
        chunk_moments(rows)
    assert "row 3" in str(caught.value.got)
