"""Near-duplicates: samples that point the same way in the prior's space, found within clusters."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rela_zoo.errors import EmbeddingsError

_BLOCK = 1024
# Of a cosine in float32: exact copies must be found at a threshold of 1.
_ROUNDING = 1e-6


@torch.no_grad()
def near_duplicates(
    points: np.ndarray, labels: np.ndarray, threshold: float, *, device: str | torch.device | None = None
) -> np.ndarray:
    """Groups of near-duplicates, after SemDeDup (arXiv 2303.09540, section 3), compared within clusters only.

    In each cluster samples are visited from the farthest from its mean to the nearest (SemDeDup, too, keeps the
    sample least like the centroid). A sample whose cosine with the leader of a group reaches the threshold joins the
    first such group; any other leads a group of its own. So every member is near *its leader*: a chain of pairs, each
    close enough, does not pull a dense class into one group, as connected components (and SemDeDup's rule, which also
    drops what is near to something dropped) would. Two members differ by at most twice the angle of the threshold.

    Exact for clusters of any size: a cluster is visited in blocks, each compared with the leaders so far and with
    itself. Time O(Σ members²·d), memory O(block·largest cluster). Pairs that k-means parted are not found.

    Args:
        points: (N, d) float32, finite, centred over the data set: cosines are taken of them as they are.
        labels: (N,) integers ≥ 0, the cluster of each.
        threshold: cosine from which two are near-duplicates, in (0, 1]; met within 1e-6.
        device: where products are made; None takes the CPU.

    Returns:
        (N,) int32: groups, numbered 0, 1, … by their first member in the order of the data set. A sample without
        duplicates is a group of its own; so is every point at zero, whose direction means nothing.

    Raises:
        EmbeddingsError: a threshold out of range, or labels for another number of points.
    """
    if not 0.0 < threshold <= 1.0:
        raise EmbeddingsError("a bad threshold for near-duplicates", expected="a cosine in (0, 1]", got=threshold)
    if labels.shape != (len(points),):
        raise EmbeddingsError("labels and points do not fit together", expected=f"({len(points)},)", got=labels.shape)
    order = np.argsort(labels, kind="stable")
    leaders = np.arange(len(points), dtype=np.int64)
    for members in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        if len(members) > 1:
            own = torch.from_numpy(points[members]).to(device)
            away = (own - own.mean(0)).square().sum(1)
            visits = torch.argsort(away, descending=True, stable=True)
            found = _leaders(torch.nn.functional.normalize(own[visits], dim=1, eps=1e-30), threshold - _ROUNDING)
            in_order = members[visits.cpu().numpy()]
            leaders[in_order] = in_order[found]
    return _numbered(leaders)


def _leaders(units: Tensor, threshold: float) -> np.ndarray:
    """Leader clustering of unit rows (n, d) in the order given → (n,) int64, the place of each one's leader."""
    found = np.arange(len(units), dtype=np.int64)
    leading = np.empty(0, np.int64)
    for start in range(0, len(units), _BLOCK):
        block = units[start : start + _BLOCK]
        free = np.ones(len(block), bool)
        if len(leading):
            near = block @ units[torch.from_numpy(leading).to(units.device)].T >= threshold
            first = near.byte().argmax(1).cpu().numpy()  # of equal values the first
            joins = near.any(1).cpu().numpy()
            found[start : start + len(block)][joins] = leading[first[joins]]
            free &= ~joins
        close = (block @ block.T >= threshold).triu(1)
        rows = close.any(1).cpu().numpy()
        pairs = close.cpu().numpy()
        for place in np.flatnonzero(rows):
            if free[place]:
                joining = np.flatnonzero(pairs[place] & free)
                found[start + joining] = start + place
                free[joining] = False
        leading = np.concatenate([leading, start + np.flatnonzero(free)])
    return found


def _numbered(leaders: np.ndarray) -> np.ndarray:
    """(N,) positions of leaders → (N,) int32, groups in the order of their first members."""
    _, first, group = np.unique(leaders, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return rank[group]
