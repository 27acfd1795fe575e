"""Selection policies: how much each sample is wanted in an epoch. No chance here; that is the draw's business."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from rela_zoo.selection._losses import RunningLosses


class Scores(NamedTuple):
    """What a policy wants of one epoch.

    Attributes:
        values: (N,) float64 ≥ 0, proportional to the chance of each sample; 0 keeps it out.
        strata: (N,) int32 or None: groups from which the draw takes their due, rounded up or down.
        weighted: whether the draw's losses are weighted so that their mean stays that of the whole data set.
    """

    values: np.ndarray
    strata: np.ndarray | None
    weighted: bool


class Policy(Protocol):
    """How the samples of an epoch are chosen.

    Attributes:
        losses: per-sample losses to be fed while training, or None if the policy does not look at them.
    """

    losses: RunningLosses | None

    def scores(self, epoch: int) -> Scores:
        """What is wanted of `epoch` ≥ 0."""
        ...


class Constant:
    """The same wish in every epoch.

    Args:
        scores: what is wanted.
    """

    losses: RunningLosses | None = None

    def __init__(self, scores: Scores) -> None:
        self._scores = scores

    def scores(self, epoch: int) -> Scores:
        return self._scores


def uniform(n: int) -> Constant:
    """Every sample alike."""
    return Constant(Scores(np.ones(n), None, False))


def equal_shares(cells: np.ndarray, weighted: bool) -> Constant:
    """As many samples from each cell as from any other; a cell with fewer gives all it has.

    Args:
        cells: (N,) int32 ≥ 0, the cell of each sample; empty cells have no share.
        weighted: see `Scores`.

    With clusters of the prior's space this is `balanced`; with cells around centres that are spread out evenly, it is
    `coverage`; with groups of near-duplicates, each as good as one sample, it is `dedup`.
    """
    sizes = np.bincount(cells)
    return Constant(Scores(1.0 / sizes[cells], cells, weighted))


def nearest(distances: np.ndarray, pool: int, *, farthest: bool = False) -> Constant:
    """Uniformly from the samples nearest to the centroid of their cluster, or farthest from it.

    Args:
        distances: (N,) float, of each sample to its centroid.
        pool: how many samples to draw from, in [1, N].
        farthest: the other end of the scale.

    Source: Sorscher et al., arXiv 2206.14486, section 5 (self-supervised prototypes); there the pool is drawn once.
    """
    order = np.argsort(-distances if farthest else distances, kind="stable")
    values = np.zeros(len(distances))
    values[order[:pool]] = 1.0
    return Constant(Scores(values, None, False))


class ByLoss:
    """Samples with a large running loss more often; weighted, so that nothing is biased.

    The chance of a sample is a mixture: `uniform_share` of it is the same for all, which bounds every weight by
    1 / uniform_share; the rest is proportional to its loss. Samples not seen yet count as average ones.

    Args:
        losses: fed while training.
        uniform_share: in (0, 1].
        weighted: see `Scores`.

    Source: importance sampling by loss, Katharopoulos and Fleuret, arXiv 1803.00942, with the loss in the place of the
    gradient's norm.
    """

    def __init__(self, losses: RunningLosses, uniform_share: float, weighted: bool) -> None:
        self.losses: RunningLosses | None = losses
        self._running, self._share, self._weighted = losses, uniform_share, weighted

    def scores(self, epoch: int) -> Scores:
        values = self._running.values.double().numpy()
        seen = ~np.isnan(values)
        mean = float(values[seen].mean()) if seen.any() else 0.0
        if mean <= 0.0:
            return Scores(np.ones(len(values)), None, self._weighted)
        relative = np.where(seen, values, mean) / mean
        # A discrepancy is never negative but for rounding.
        wanted = self._share + (1.0 - self._share) * np.maximum(relative, 0.0)
        return Scores(wanted, None, self._weighted)


class Curriculum:
    """One policy after another.

    Args:
        phases: (until, policy) in order: a policy is used in the epochs that begin before the fraction `until` of the
            training, rising in (0, 1]; the last one is 1.
        epochs: of the whole training, ≥ 1.
    """

    def __init__(self, phases: Sequence[tuple[float, Policy]], epochs: int) -> None:
        self._phases, self._epochs = list(phases), epochs
        self.losses = next((policy.losses for _, policy in phases if policy.losses is not None), None)

    def scores(self, epoch: int) -> Scores:
        progress = epoch / self._epochs
        # The tolerance keeps 0.3 of 10 epochs three epochs long.
        policy = next((policy for until, policy in self._phases if progress < until - 1e-9), self._phases[-1][1])
        return policy.scores(epoch)
