"""Subsets: a function of seed and epoch."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rela_zoo.selection.subset import EpochSubset


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 500), ratio=st.floats(0.01, 1.0), seed=st.integers(0, 2**32), epoch=st.integers(0, 10**6))
def test_distinct_samples_in_range_and_repeatable(n, ratio, seed, epoch):
    if int(ratio * n + 1e-9) < 1:
        with pytest.raises(ValueError, match="leaves none"):
            EpochSubset(n, ratio, seed)
        return
    indices = EpochSubset(n, ratio, seed).indices(epoch)
    assert indices.dtype == torch.int64
    assert len(indices) == int(ratio * n + 1e-9) == len(set(indices.tolist()))
    assert int(indices.min()) >= 0
    assert int(indices.max()) < n
    assert torch.equal(indices, EpochSubset(n, ratio, seed).indices(epoch))


def test_the_draw_of_a_seed_never_changes():
    # Golden: a checkpoint resumed with a later version must see the same samples.
    assert EpochSubset(10, 0.5, 7).indices(0).tolist() == [8, 0, 7, 1, 3]
    assert EpochSubset(10, 0.5, 7).indices(3).tolist() == [3, 5, 4, 7, 8]


def test_epochs_and_seeds_differ():
    subset = EpochSubset(1000, 0.2, 0)
    assert not torch.equal(subset.indices(0), subset.indices(1))
    assert not torch.equal(subset.indices(0), EpochSubset(1000, 0.2, 1).indices(0))
    # Seed 0 of epoch 1 must not be seed 1 of epoch 0, as adding the two would make it.
    assert not torch.equal(subset.indices(1), EpochSubset(1000, 0.2, 1).indices(0))


def test_every_sample_is_drawn_equally_often():
    subset, epochs = EpochSubset(50, 0.2, 3), 2000
    counts = Counter(i for epoch in range(epochs) for i in subset.indices(epoch).tolist())
    expected, deviation = epochs * 0.2, np.sqrt(epochs * 0.2 * 0.8)
    assert all(abs(counts[i] - expected) < 5 * deviation for i in range(50))


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.1, float("nan")])
def test_ratio_outside_the_range_is_refused(ratio):
    with pytest.raises(ValueError, match=r"ratio in \(0, 1\]"):
        EpochSubset(10, ratio, 0)


def test_rounding_loses_no_sample():
    assert len(EpochSubset(100, 0.29, 0)) == 29
