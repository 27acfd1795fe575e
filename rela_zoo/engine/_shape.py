"""The numbers of a training by which subsets and stages are sized."""

from __future__ import annotations

from dataclasses import dataclass

from rela_zoo._io import ranks
from rela_zoo.engine.sampler import SubsetSampler
from rela_zoo.errors import ConfigError, Problem
from rela_zoo.selection.subset import Subset


@dataclass(frozen=True)
class RunShape:
    """How long a training is, and how its steps are made.

    Attributes:
        batch_size: samples of one process in a batch, ≥ 1.
        epochs: of the whole training; None for one without a set number of them.
        accumulate: batches in an optimiser step, ≥ 1.
        partial_steps: whether the last batch of an epoch always ends a step; else batches too few for one make none.
        limit_batches: at most so many batches of an epoch (int), or this fraction of them (float in [0, 1]).
        seed: of subsets, views and head, unless `rela.seed` is set.
        method: what takes over at the handover, for messages.
        read_every: optimiser steps between two looks at a handover rule whose state lies on the device.
        rank: of this process; None asks the process group.
        world_size: processes; None asks the process group.
        max_steps: the training ends after so many optimiser steps, if not before; None for no such end.
        trial: a run of a few batches, to see whether everything works: its lengths are no mistakes.

    Examples:
        >>> from rela_zoo import RunShape
        >>> RunShape(batch_size=64, epochs=20).accumulate
        1
    """

    batch_size: int
    epochs: int | None = None
    accumulate: int = 1
    partial_steps: bool = True
    limit_batches: int | float = 1.0
    seed: int = 0
    method: str = "the method's own loss"
    read_every: int = 50
    rank: int | None = None
    world_size: int | None = None
    max_steps: int | None = None
    trial: bool = False

    @property
    def process(self) -> int:
        """Number of this process."""
        return ranks.rank() if self.rank is None else self.rank

    @property
    def processes(self) -> int:
        """How many there are."""
        return ranks.world_size() if self.world_size is None else self.world_size

    @property
    def length(self) -> int | None:
        """`epochs`, None also where a host says -1 for an open end."""
        return None if self.epochs is None or self.epochs < 0 else self.epochs

    def sampler(self, subset: Subset) -> SubsetSampler:
        """The sampler of this process.

        Raises:
            ConfigError: an epoch's subset is smaller than one batch.
        """
        try:
            return SubsetSampler(subset, self.batch_size, num_replicas=self.processes, rank=self.process)
        except ValueError as error:
            fix = "raise rela.data_ratio, or lower optimizer.batch_size"
            problem = Problem("rela.data_ratio", "at least one batch in every epoch", str(error), fix)
            raise ConfigError([problem]) from error

    def batches(self, sampler: SubsetSampler, epoch: int) -> int:
        """Batches that each process trains on in an epoch."""
        batches, limit = sampler.length(epoch) // sampler.batch_size, self.limit_batches
        return min(batches, limit) if isinstance(limit, int) else int(batches * limit)

    def samples(self, sampler: SubsetSampler, epoch: int) -> int:
        """Samples that are trained on in an epoch, by all processes: whole batches of those that are drawn."""
        return self.batches(sampler, epoch) * sampler.batch_size * self.processes

    def total_steps(self, sampler: SubsetSampler) -> int | None:
        """Optimiser steps of the whole training; None for an open end."""
        ends = [] if self.length is None else [self.optimiser_steps(sampler, self.length)]
        return min([*ends, *([] if self.max_steps is None else [self.max_steps])], default=None)

    def epochs_run(self, sampler: SubsetSampler, steps: int) -> int:
        """Epochs that so many optimiser steps need, the last perhaps not to its end."""
        if self.max_steps is None and self.length is not None:
            return self.length
        epochs = 0
        while self.optimiser_steps(sampler, epochs) < steps and epochs != self.length:
            epochs += 1
        return epochs

    def optimiser_steps(self, sampler: SubsetSampler, epochs: int) -> int:
        """Optimiser steps of the first `epochs` epochs of a sampler."""

        def steps(epoch: int) -> int:
            batches = self.batches(sampler, epoch)
            return -(-batches // self.accumulate) if self.partial_steps else batches // self.accumulate

        return epochs * steps(0) if sampler.subset.counts is None else sum(steps(epoch) for epoch in range(epochs))
