"""Subsets: a function of seed and epoch, the same for every rank, in any number of workers."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from rela_zoo.selection.subset import EpochSubset, StagedDataset, SubsetSampler


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


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_are_disjoint_and_together_the_subset(ranks):
    subset = EpochSubset(100, 0.35, 5)
    parts = []
    for rank in range(ranks):
        sampler = SubsetSampler(subset, batch_size=4, num_replicas=ranks, rank=rank)
        sampler.set_epoch(2)
        part = [i % 100 for i in sampler]
        assert len(part) == len(sampler) == 35 // ranks
        parts.append(part)
    together = [i for part in parts for i in part]
    assert len(set(together)) == len(together)
    assert set(together) == set(subset.indices(2).tolist()[: 35 // ranks * ranks])


def test_less_than_a_batch_on_a_rank_is_refused():
    with pytest.raises(ValueError, match="less than one batch"):
        SubsetSampler(EpochSubset(100, 0.1, 0), batch_size=8, num_replicas=2)


class _Recorder(Dataset):
    """Returns what it was asked for, through its transform; the transform adds chance of all three generators."""

    def __init__(self, n):
        self.n, self.transform = n, lambda x: ("own", x)

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        import random

        stage, value = self.transform(index)
        return index, stage, float(torch.rand(1)) + np.random.rand() + random.random(), value


def _epoch(workers, handover_at, epoch=0, seed=0):
    sampler = SubsetSampler(EpochSubset(40, 1.0, seed), batch_size=4)
    sampler.own_stage_from(handover_at)
    sampler.set_epoch(epoch)
    dataset = StagedDataset(_Recorder(40), lambda x: ("accelerated", x), seed)
    return list(DataLoader(dataset, batch_size=4, sampler=sampler, num_workers=workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_no_batch_mixes_the_stages(workers):
    batches = _epoch(workers, handover_at=3)
    assert [set(batch[1]) for batch in batches] == [{"accelerated"}] * 3 + [{"own"}] * 7
    assert all(torch.equal(batch[0], batch[3]) for batch in batches)


def test_live_workers_see_a_handover_inside_the_epoch():
    sampler = SubsetSampler(EpochSubset(40, 1.0, 0), batch_size=4)
    dataset = StagedDataset(_Recorder(40), lambda x: ("accelerated", x), 0)
    stages = []
    for batch in DataLoader(dataset, batch_size=4, sampler=sampler, num_workers=1, prefetch_factor=2):
        stages.append(set(batch[1]).pop())
        if len(stages) == 1:
            sampler.own_stage_from(5)
    assert stages == ["accelerated"] * 5 + ["own"] * 5


def test_views_do_not_depend_on_workers():
    assert [b[2].tolist() for b in _epoch(0, None)] == [b[2].tolist() for b in _epoch(2, None)]


def test_views_differ_between_epochs_and_seeds():
    by_sample = lambda batches: {int(i): float(v) for b in batches for i, v in zip(b[0], b[2], strict=True)}  # noqa: E731
    first, second, other = (by_sample(_epoch(0, None, *key)) for key in ((0, 0), (1, 0), (0, 1)))
    assert all(first[i] != second[i] != other[i] for i in range(40))


def test_the_global_generators_are_left_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    StagedDataset(_Recorder(5), None, 0)[2]
    assert torch.equal(torch.rand(3), expected)
