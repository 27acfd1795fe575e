"""k-centre cells: as few balls as possible, as small as possible, around samples that are far from each other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rela_zoo.errors import EmbeddingsError
from rela_zoo.selection.geometry._assign import assign

MOST_CENTRES = 4096
_CANDIDATES = 2048
_BLOCK = 8192


class Cover(NamedTuple):
    """A cover of points by balls of one radius.

    Attributes:
        labels: (N,) int32 in [0, m), the nearest centre of each point.
        distances: (N,) float32, Euclidean, to that centre.
        centres: (m,) int64, which points are the centres, in the order of their choice.
        radius: the largest distance.
    """

    labels: np.ndarray
    distances: np.ndarray
    centres: np.ndarray
    radius: float


def k_centres(
    points: np.ndarray,
    m: int,
    seed: int,
    *,
    device: str | torch.device | None = None,
    candidates: int = _CANDIDATES,
    sample: int = 1 << 21,
) -> Cover:
    """Farthest-point traversal: each new centre is the point farthest from those before it.

    Gonzalez 1985: the radius is at most twice the smallest possible with m centres. Sener and Savarese (arXiv
    1708.00489) choose core sets by it. One pass over all points for each centre would be slow, so a pass serves
    several: among the points that were the farthest after it, centres are chosen for as long as the next one is
    farther than any point outside them can be. That is the same choice as one by one, up to ties and the rounding of
    float32 (small for points that are centred).

    Args:
        points: (N, d) float32, finite.
        m: number of centres, in [1, min(N, 4096)]: the time is O(N·m·d).
        seed: ≥ 0, of the first centre and of the sample.
        device: where distances are computed; None takes the CPU. All points are held there.
        candidates: how many of the farthest points a pass may choose from; 1 gives one centre a pass.
        sample: where there are more points than this, centres are chosen from a draw of that many, and the bound
            holds for the draw only; every point then goes to the nearest centre all the same.

    Returns:
        The cover; with fewer than m centres when there are fewer different points.

    Raises:
        EmbeddingsError: m out of range.
    """
    most = min(len(points), MOST_CENTRES)
    if not 1 <= m <= most:
        raise EmbeddingsError(
            "there can't be that many centres",
            expected=f"1 to {most} for {len(points)} samples",
            got=m,
            fix="ask for fewer, or use k-means clusters",
        )
    draws = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    if len(points) <= sample:
        return _traverse(points, m, int(draws.integers(len(points))), candidates, device)
    picked = np.sort(draws.choice(len(points), sample, replace=False))
    centres = picked[_traverse(points[picked], m, int(draws.integers(sample)), candidates, device).centres]
    labels, distances = assign(points, points[centres], device)
    return Cover(labels, distances, centres, float(distances.max()))


@torch.no_grad()
def _traverse(points: np.ndarray, m: int, first: int, candidates: int, device: str | torch.device | None) -> Cover:
    here = torch.from_numpy(points).to(device)
    squares = torch.linalg.vector_norm(here, dim=1).square_()
    nearest = torch.full_like(squares, torch.inf)  # squared distances
    labels = torch.zeros(len(here), dtype=torch.int32, device=here.device)
    chosen: list[int] = []
    new = [first]
    while new:
        _update(here, squares, nearest, labels, new, len(chosen))
        chosen += new
        new = _farthest(here, nearest, candidates, m - len(chosen))
    distances = nearest.sqrt().cpu().numpy()
    return Cover(labels.cpu().numpy(), distances, np.array(chosen, np.int64), float(distances.max()))


def _update(points: Tensor, squares: Tensor, nearest: Tensor, labels: Tensor, new: list[int], before: int) -> None:
    """One pass: `nearest` and `labels` with the new centres, which get the labels from `before` on."""
    centres = points[new]
    across, own = -2 * centres.T, centres.square().sum(1)
    for start in range(0, len(points), _BLOCK):
        stop = start + _BLOCK
        block, known = points[start:stop], squares[start:stop]
        rough, which = torch.addmm(own, block, across).min(1)
        # The product is right up to rounding, which must not keep a copy of a centre from being seen as one.
        better = (rough + known * (1 - 1e-5) < nearest[start:stop]).nonzero()[:, 0]
        exact = (block[better] - centres[which[better]]).square().sum(1)
        closer = exact < nearest[start:stop][better]
        rows = better[closer] + start
        nearest[rows] = exact[closer]
        labels[rows] = (which[better[closer]] + before).to(labels.dtype)
    # Whatever rounding says, a centre is its own and is never chosen again.
    nearest[new] = 0
    labels[new] = torch.arange(before, before + len(new), dtype=labels.dtype, device=labels.device)


def _farthest(points: Tensor, nearest: Tensor, candidates: int, count: int) -> list[int]:
    """The next centres, at most `count`: as many as are certain without another pass, and none if all are covered."""
    far, at = nearest.topk(min(candidates, len(nearest)))
    outside = far[-1].clone() if len(far) < len(nearest) else far.new_tensor(-torch.inf)
    near = points[at]
    picked: list[int] = []
    while len(picked) < count:
        value, best = far.max(0)
        # Points outside the candidates can only have come nearer; the first is certain whatever they did.
        if value <= 0 or (picked and value < outside):
            break
        picked.append(int(at[best]))
        far = torch.minimum(far, (near - near[best]).square().sum(1))
    return picked
