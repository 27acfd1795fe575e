"""What a policy wants of an epoch: how much each sample. No chance here; that is the draw's business."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Scores(NamedTuple):
    """What a policy wants of one epoch.

    Attributes:
        values: (N,) float64 ≥ 0, proportional to the chance of each sample; 0 keeps it out.
        strata: (N,) int32 or None: groups from which the draw takes their due, rounded up or down.
        weighted: whether the draw's losses are weighted so that their mean stays that of the whole data set.
    """

    values: np.ndarray
    strata: np.ndarray | None = None
    weighted: bool = False


# An epoch ≥ 0 → what is wanted of it.
EpochScores = Callable[[int], Scores]


def always(scores: Scores) -> EpochScores:
    """The same wish in every epoch."""
    return lambda epoch: scores


def equal_shares(cells: np.ndarray, weighted: bool) -> EpochScores:
    """As many samples from each cell as from any other; a cell with fewer gives all it has.

    Args:
        cells: (N,) int32 ≥ 0, the cell of each sample; empty cells have no share.
        weighted: see `Scores`.
    """
    sizes = np.bincount(cells)
    return always(Scores(1.0 / sizes[cells], cells, weighted))


def nearest(distances: np.ndarray, pool: int, *, farthest: bool = False) -> EpochScores:
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
    return always(Scores(values))
