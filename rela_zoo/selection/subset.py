"""Dynamic subsets: which samples an epoch trains on, as a function of seed and epoch alone.

Drawn in the main process and the same on every rank, so that nothing depends on workers, devices or resumption.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor


class Draw(NamedTuple):
    """The samples of one epoch.

    Attributes:
        indices: (k,) int64, distinct positions in the data set, in the order of training.
        weights: (k,) float32, factors of their losses, or None for no weights.
    """

    indices: Tensor
    weights: Tensor | None


class Subset(Protocol):
    """Which samples each epoch trains on: a function of seed, epoch and a state that is the same on every rank.

    Attributes:
        n: samples in the data set.
        ratio: fraction of them in an epoch, on average.
        seed: of the draws.
        counts: samples of each epoch of the training, or None if all epochs are of one size.
    """

    n: int
    ratio: float
    seed: int
    counts: tuple[int, ...] | None

    @property
    def described(self) -> dict[str, object]:
        """Name and options of the selection policy, as plain data."""
        ...

    @property
    def losses(self) -> Any:
        """`RunningLosses` to be fed while training, or None."""
        ...

    def __len__(self) -> int:
        """Samples of an epoch, on average."""
        ...

    def count(self, epoch: int) -> int:
        """Samples of this epoch."""
        ...

    def draw(self, epoch: int) -> Draw:
        """The samples of this epoch."""
        ...


def subset_size(n: int, ratio: float) -> int:
    """floor(ratio·n), the samples of an epoch.

    Raises:
        ValueError: if `ratio` is outside (0, 1], or none would be left.
    """
    if not 0.0 < ratio <= 1.0:
        raise ValueError(f"expected a ratio in (0, 1], got {ratio}")
    # The tolerance keeps 0.29 * 100 = 28.999999999999996 from losing a sample.
    size = math.floor(ratio * n + 1e-9)
    if size < 1:
        raise ValueError(f"a ratio of {ratio} of {n} samples leaves none; expected at least one")
    return size


class EpochSubset:
    """A fresh uniform draw of floor(ratio·n) samples for each epoch, without replacement, in random order.

    Args:
        n: samples in the data set, ≥ 1.
        ratio: fraction of them in each epoch, in (0, 1].
        seed: of the draws; with the epoch it decides everything.

    Raises:
        ValueError: if `ratio` is outside (0, 1], or the subset would be empty.

    Examples:
        >>> from rela_zoo import EpochSubset
        >>> subset = EpochSubset(10, ratio=0.3, seed=0)
        >>> subset.indices(0).tolist(), subset.indices(1).tolist()
        ([4, 6, 2], [9, 1, 3])

    Source: ReLA (arXiv 2405.14669), dynamic data subset; the reference draws from a global generator instead.
    """

    def __init__(self, n: int, ratio: float, seed: int) -> None:
        self._count = subset_size(n, ratio)
        self.n, self.ratio, self.seed = n, ratio, seed
        self.counts: tuple[int, ...] | None = None

    # What the other subsets say of themselves; this one has no state and one size.
    losses = None

    @property
    def described(self) -> dict[str, object]:
        return {"name": "uniform"}

    def __len__(self) -> int:
        return self._count

    def count(self, epoch: int) -> int:
        """Samples of `epoch`: always the same number."""
        return self._count

    def draw(self, epoch: int) -> Draw:
        """The samples of `epoch` ≥ 0, without weights."""
        return Draw(self.indices(epoch), None)

    def indices(self, epoch: int) -> Tensor:
        """Positions of the samples of `epoch` ≥ 0: (floor(ratio·n),) int64, distinct, in the order of training."""
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch])))
        return torch.from_numpy(generator.permutation(self.n)[: self._count].astype(np.int64))
