"""The sampler and its data set: the same for every rank, in any number of workers."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from rela_zoo.engine import StagedDataset, SubsetSampler
from rela_zoo.selection.subset import EpochSubset


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


@pytest.mark.parametrize("ranks", [1, 2])
def test_batches_to_come_are_foretold(ranks):
    sampler = SubsetSampler(EpochSubset(100, 0.5, 5), batch_size=4, num_replicas=ranks, rank=ranks - 1)
    one = torch.arange(4)
    assert [batch.tolist() for batch in sampler.batches_from(one, 0, 3)] == [one.tolist()], "nothing drawn yet"
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        mine = torch.tensor([i % 100 for i in sampler])
        batches = [part.tolist() for part in mine.split(4) if len(part) == 4]
        for at in range(len(batches)):
            found = sampler.batches_from(torch.tensor(batches[at]), epoch, 3)
            assert [batch.tolist() for batch in found] == batches[at : at + 3]
    # Of another epoch, of other samples, in another order: no more is known than what was asked about.
    for indices, at in ((mine[:4], 0), (mine[1:5], 1), (mine[:4].flip(0), 1)):
        assert [batch.tolist() for batch in sampler.batches_from(indices, at, 3)] == [indices.tolist()]
