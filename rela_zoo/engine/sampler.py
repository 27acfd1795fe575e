"""The sampler of a run and its data set, a pair: one packs sample, stage and epoch into an index, the other unpacks.

So stage and epoch reach live workers, and no batch mixes the two stages.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from rela_zoo.selection.subset import Subset


class SubsetSampler(DistributedSampler):
    """Feeds one rank its part of an `EpochSubset`, and tells `StagedDataset` to which stage each batch belongs.

    Yields `index + n * (stage + 2 * epoch)`: stage (0 accelerated, 1 the method's own) and epoch travel with the
    index into live workers, and no batch mixes the two stages. All ranks get equally many samples and none twice;
    the at most `num_replicas - 1` left over rest for this epoch.

    It derives from `DistributedSampler` because Lightning leaves such samplers alone and forwards the epoch to them.

    Args:
        subset: what to draw.
        batch_size: of one rank; the stage changes only between batches.
        num_replicas: number of ranks, ≥ 1.
        rank: of this process, in [0, num_replicas).

    Raises:
        ValueError: if a rank would get less than one full batch in any epoch.

    Examples:
        >>> from rela_zoo import EpochSubset, SubsetSampler
        >>> sampler = SubsetSampler(EpochSubset(10, ratio=0.5, seed=0), batch_size=2)
        >>> sampler.set_epoch(1)
        >>> len(sampler), [index % 10 for index in sampler]
        (5, [9, 1, 3, 8, 7])
    """

    def __init__(self, subset: Subset, batch_size: int, num_replicas: int = 1, rank: int = 0) -> None:
        # The parent's __init__ asks for a data set and an initialised process group; neither is needed here.
        self.subset, self.batch_size = subset, batch_size
        self.num_replicas, self.rank = num_replicas, rank
        self.drop_last, self.shuffle, self.seed = True, True, subset.seed
        self.epoch = 0
        # (m,) int64, what was drawn for the epoch under way, for all ranks in turn; None before the first.
        self.drawn: Tensor | None = None
        self._drawn_for = -1  # that epoch
        self._places: dict[int, int] | None = None  # of this rank's batches in it, by their first samples
        self._own_from_batch: int | None = None
        self._weights: Tensor | None = None
        smallest = len(subset) if subset.counts is None else min(subset.counts)
        if smallest // num_replicas < batch_size:
            raise ValueError(
                f"an epoch's subset has {smallest} samples, {smallest // num_replicas} on each of {num_replicas} "
                f"ranks: less than one batch of {batch_size}"
            )

    def length(self, epoch: int) -> int:
        """Samples of this rank in `epoch`."""
        return self.subset.count(epoch) // self.num_replicas

    def __len__(self) -> int:
        return self.length(self.epoch)

    def own_stage_from(self, batch: int | None) -> None:
        """Let the method's own stage begin at this batch of the epoch; 0 means from its start, None not at all."""
        self._own_from_batch = batch

    def in_own_stage(self, batch: int) -> bool:
        """Whether this batch of the epoch (0, 1, …) belongs to the method's own stage."""
        return self._own_from_batch is not None and batch >= self._own_from_batch

    def set_epoch(self, epoch: int) -> None:
        """Draw for this epoch from now on."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        epoch, n = self.epoch, self.subset.n
        draw, total = self.subset.draw(epoch), self.length(epoch) * self.num_replicas
        self._weights, self._places = None, None
        self.drawn, self._drawn_for = draw.indices[:total], epoch
        if draw.weights is not None:
            self._weights = torch.zeros(n)
            self._weights[draw.indices] = draw.weights
        for position, index in enumerate(self.drawn[self.rank :: self.num_replicas].tolist()):
            # Asked for every sample, for a handover may come while the epoch is under way.
            yield index + n * (int(self.in_own_stage(position // self.batch_size)) + 2 * epoch)

    def batches_from(self, indices: Tensor, epoch: int, count: int) -> list[Tensor]:
        """A batch and those that come after it, as far as they can be foretold.

        Args:
            indices: (B,) int64 on the CPU, of its samples.
            epoch: in which it was drawn.
            count: batches at most, ≥ 1.

        Returns:
            (B,) of each; the first one is `indices`.
        """
        if count == 1 or self.drawn is None or self._drawn_for != epoch:
            return [indices]
        batches = self.drawn[self.rank :: self.num_replicas].split(self.batch_size)
        if self._places is None:
            self._places = {int(batch[0]): number for number, batch in enumerate(batches)}
        at = self._places.get(int(indices[0]))
        if at is None or not torch.equal(batches[at], indices):
            return [indices]
        return [one for one in batches[at : at + count] if len(one) == len(indices)]

    def weights(self, indices: Tensor) -> Tensor | None:
        """Weights of samples of the epoch under way: (B,) int64 on the CPU → (B,) float32, or None for no weights."""
        return None if self._weights is None else self._weights[indices]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold to go on with the same subsets; the losses a policy looks at lie elsewhere."""
        subset = self.subset
        return {
            "n": subset.n,
            "ratio": subset.ratio,
            "seed": subset.seed,
            "selection": subset.described,
            "epoch": self.epoch,
        }


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed torch, NumPy and Python by `key` inside the block, and put their generators back afterwards."""
    seed = int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=4).digest(), "little")
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])


class StagedDataset(Dataset):
    """A data set whose views depend on the stage, and whose chance depends on (seed, epoch, index) alone.

    So the views of a sample are the same whatever the number of workers and ranks, and after a resumption.

    Args:
        base: a map-style data set that applies its `transform` attribute in `__getitem__`.
        accelerated: transform of the accelerated stage; None for the data set's own in both stages.
        seed: of the views.
        indexed: whether the items of `base` carry their index; else it is put in front of them.
    """

    def __init__(self, base: Any, accelerated: Any | None, seed: int, *, indexed: bool = True) -> None:
        self.base, self._seed, self._indexed = base, seed, indexed
        # Of the accelerated stage, and of the method's own.
        self.transforms = (base.transform if accelerated is None else accelerated, base.transform)

    @property
    def dataset(self) -> Any:
        """`base`, by the name under which torch's own wrappers keep the data set within."""
        return self.base

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, packed: int) -> Any:
        """The item of `base` for an index packed by `SubsetSampler`, or for a bare index (stage 0, epoch 0)."""
        tag, index = divmod(packed, len(self.base))
        epoch, stage = divmod(tag, 2)
        self.base.transform = self.transforms[stage]
        with seeded(self._seed, epoch, index):
            item = self.base[index]
        if self._indexed:
            return item
        return (index, *item) if isinstance(item, list | tuple) else (index, item)

    def __getitems__(self, packed: list[int]) -> Any:
        """The items of a batch; or the whole batch, whose views are made later, if the base gives such in its stage."""
        # No batch mixes two stages or epochs.
        tag = packed[0] // len(self.base)
        epoch, stage = divmod(tag, 2)
        if not getattr(self.base, "stages", (False, False))[stage]:
            return [self[one] for one in packed]
        return self.base.raw_batch([one % len(self.base) for one in packed], epoch, stage, self._seed)
