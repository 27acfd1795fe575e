"""Near-duplicates: samples that point the same way in the prior's space, found within clusters."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rela_zoo.errors import EmbeddingsError

_BLOCK = 2048
# Of a cosine in float32: exact copies must be found at a threshold of 1.
_ROUNDING = 1e-6
_TINY = 1e-30


@torch.no_grad()
def near_duplicates(
    points: np.ndarray, labels: np.ndarray, threshold: float, *, device: str | torch.device | None = None
) -> np.ndarray:
    """Groups of near-duplicates, after SemDeDup (arXiv 2303.09540, section 3), compared within clusters only.

    Clusters are visited one after the other, and their samples from the farthest from the mean to the nearest
    (SemDeDup, too, keeps the sample least like the centroid). A sample whose cosine with the leader of a group reaches
    the threshold joins the first such group; any other leads a group of its own. So every member is near *its leader*:
    a chain of pairs, each close enough, does not pull a dense class into one group, as connected components (and
    SemDeDup's rule, which also drops what is near to something dropped) would. Two members differ by at most twice the
    angle of the threshold.

    Pairs that k-means parted are not found, and it parts one in ten where clusters touch each other. A sample may
    therefore be in several clusters, such as its two nearest: it is then visited in each until it has joined a group,
    unless another sample has joined its own.

    Exact within clusters of any size: one is visited in blocks, each compared with the leaders so far and with itself.
    Time O(Σ members²·d), memory O(block·largest cluster).

    Args:
        points: (N, d) float32, finite, centred over the data set: cosines are taken of them as they are.
        labels: (N,) integers ≥ 0, the cluster of each; or (N, p), p different clusters of each.
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
    if labels.ndim not in (1, 2) or len(labels) != len(points):
        raise EmbeddingsError(
            "labels and points do not fit together", expected=f"labels for {len(points)} points", got=labels.shape
        )
    flat = labels.reshape(-1)
    order = np.argsort(flat, kind="stable")
    samples = order // (labels.shape[1] if labels.ndim == 2 else 1)
    leaders = np.arange(len(points), dtype=np.int64)
    lengths = np.sqrt(np.einsum("nd,nd->n", points, points))
    followed = np.zeros(len(points), bool)
    for members in np.split(samples, np.flatnonzero(np.diff(flat[order])) + 1):
        members = members[leaders[members] == members]
        if len(members) < 2:
            continue
        own = points[members]
        visits = np.argsort(-np.square(own - own.mean(0)).sum(1), kind="stable")
        visited = members[visits]
        units = torch.from_numpy(own[visits] / np.maximum(lengths[visited, None], _TINY)).to(device)
        found = visited[_leaders(units, threshold * (1 - _ROUNDING), followed[visited])]
        leaders[visited] = found
        followed[found[found != visited]] = True
    return _numbered(leaders)


def _leaders(units: Tensor, threshold: float, followed: np.ndarray) -> np.ndarray:
    """Leader clustering of unit rows (n, d) in the order given; those that are `followed` (n,) join nobody.

    Returns:
        (n,) int64, the place of each one's leader.
    """
    found = np.arange(len(units), dtype=np.int64)
    leading = np.empty(0, np.int64)
    for start in range(0, len(units), _BLOCK):
        block = units[start : start + _BLOCK]
        may_join = ~followed[start : start + len(block)]
        leads = np.ones(len(block), bool)
        # Few have a near neighbour, and the largest cosine of each tells who: the only pass over all cosines.
        if len(leading):
            cosines = block @ units[torch.from_numpy(leading).to(units.device)].T
            some = (cosines.amax(1) >= threshold).nonzero()[:, 0]
            first = (cosines[some] >= threshold).byte().argmax(1).cpu().numpy()  # of equal values the first
            places = some.cpu().numpy()
            joins = places[may_join[places]]
            found[start + joins] = leading[first[may_join[places]]]
            may_join[joins] = leads[joins] = False
        cosines = (block @ block.T).fill_diagonal_(-1)
        some = (cosines.amax(1) >= threshold).nonzero()[:, 0]
        for place, near in zip(some.tolist(), (cosines[some] >= threshold).cpu().numpy(), strict=True):
            if leads[place]:
                joins = place + 1 + np.flatnonzero((near & may_join)[place + 1 :])
                found[start + joins] = start + place
                may_join[joins] = leads[joins] = False
        leading = np.concatenate([leading, start + np.flatnonzero(leads)])
    return found


def _numbered(leaders: np.ndarray) -> np.ndarray:
    """(N,) positions of leaders → (N,) int32, groups in the order of their first members."""
    _, first, group = np.unique(leaders, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return rank[group]
