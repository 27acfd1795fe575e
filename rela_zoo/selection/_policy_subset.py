"""Epoch subsets by a policy: scores, inclusion probabilities, a draw."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rela_zoo.errors import SelectionError
from rela_zoo.selection._draw import inclusion_probabilities, systematic_draw, unbiased_weights
from rela_zoo.selection._losses import RunningLosses
from rela_zoo.selection._scores import EpochScores
from rela_zoo.selection.subset import Draw, subset_size


class RatioSchedule:
    """Epochs of different sizes that are as large on average as they would be without a schedule.

    The size grows, or shrinks, linearly from epoch to epoch.

    Args:
        size: samples of an average epoch, ≥ 1.
        growth: the last epoch's size over the first one's, > 0.
        epochs: of the whole training, ≥ 1.
    """

    def __init__(self, size: int, growth: float, epochs: int) -> None:
        steps = np.linspace(0.0, 1.0, epochs) if epochs > 1 else np.full(1, 0.5)
        shares = 2.0 * (1.0 + (growth - 1.0) * steps) / (1.0 + growth)
        # Rounding the running sum keeps the total exactly size · epochs.
        edges = np.floor(np.concatenate([[0.0], np.cumsum(shares)]) * size + 1e-6)
        edges[-1] = size * epochs
        self.counts: tuple[int, ...] = tuple(int(one) for one in np.diff(edges))


class PolicySubset:
    """A draw of floor(ratio·n) samples for each epoch, without replacement, as a policy wants them.

    A function of seed, epoch and the policy's state, which is the same on every rank.

    Args:
        n: samples in the data set, ≥ 1.
        ratio: fraction of them in an epoch, on average, in (0, 1].
        seed: of the draws.
        scores: what a policy wants of each epoch.
        described: name and options of the policy as plain data.
        losses: that the policy looks at, to be fed while training; or None.
        schedule: sizes of the epochs, or None for one size.

    Raises:
        ValueError: if `ratio` is outside (0, 1], or the subset would be empty.
    """

    def __init__(
        self,
        n: int,
        ratio: float,
        seed: int,
        scores: EpochScores,
        described: dict[str, object],
        losses: RunningLosses | None = None,
        schedule: RatioSchedule | None = None,
    ) -> None:
        self._size = subset_size(n, ratio)
        self.n, self.ratio, self.seed = n, ratio, seed
        self.described, self.losses = described, losses
        self._scores = scores
        self.counts = None if schedule is None else schedule.counts

    def __len__(self) -> int:
        return self._size

    def count(self, epoch: int) -> int:
        """Samples of `epoch` ≥ 0."""
        return self._size if self.counts is None else self.counts[min(epoch, len(self.counts) - 1)]

    def draw(self, epoch: int) -> Draw:
        """The samples of `epoch` ≥ 0, and their weights if the policy is a weighted one.

        Raises:
            SelectionError: the policy's scores are not one a sample.
        """
        count, scores = self.count(epoch), self._scores(epoch)
        if np.shape(scores.values) != (self.n,):
            raise SelectionError(
                f"selection {self.described.get('name')} does not score every sample",
                expected=f"scores of shape ({self.n},)",
                got=np.shape(scores.values),
            )
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch])))
        probabilities = inclusion_probabilities(scores.values, count)
        drawn = systematic_draw(probabilities, count, generator, scores.strata)
        weights = torch.from_numpy(unbiased_weights(probabilities, drawn)) if scores.weighted else None
        return Draw(torch.from_numpy(drawn), weights)

    def indices(self, epoch: int) -> Tensor:
        """The samples of `epoch` ≥ 0 alone: (count,) int64, distinct, in the order of training."""
        return self.draw(epoch).indices
