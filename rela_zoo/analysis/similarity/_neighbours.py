"""Who is near whom: k nearest rows by cosine, and how far two spaces agree on them."""

from __future__ import annotations

import torch
from torch import Tensor

from rela_zoo.analysis.similarity._rows import paired, single


def nearest(x: Tensor, k: int, chunk: int = 1024) -> Tensor:
    """The k nearest other rows of each row, by cosine.

    Args:
        x: (N, D) floating.
        k: in [1, N − 1].
        chunk: rows compared with all at once: memory is chunk × N.

    Returns:
        (N, k) int64 positions, nearest first.

    Raises:
        ValueError: k out of range, or rows that aren't finite.
    """
    rows = single(x)
    if not 1 <= k < len(rows):
        raise ValueError(f"expected k in [1, {len(rows) - 1}], got {k}")
    rows = torch.nn.functional.normalize(rows, dim=1)
    found = []
    for start in range(0, len(rows), chunk):
        cosines = rows[start : start + chunk] @ rows.T
        own = torch.arange(len(cosines), device=rows.device)
        cosines[own, own + start] = -torch.inf
        found.append(cosines.topk(k, dim=1).indices)
    return torch.cat(found)


def mutual_knn(x: Tensor, y: Tensor, k: int = 10, chunk: int = 1024) -> float:
    """Mean part of a sample's k nearest neighbours that two spaces share, in [0, 1]; by chance k / (N − 1).

    Huh et al. 2024, arXiv 2405.07987, appendix A.

    Args:
        x: (N, D) floating.
        y: (N, E) floating, the same samples in the same order.
        k: in [1, N − 1].
        chunk: rows compared with all at once: memory is chunk × N.

    Returns:
        the shared part.

    Raises:
        ValueError: k out of range, rows that don't fit together, or aren't finite.
    """
    x, y = paired(x, y)
    one, other = nearest(x, k, chunk), nearest(y, k, chunk).to(x.device)
    shared = 0
    for start in range(0, len(one), chunk):
        shared += int((one[start : start + chunk, :, None] == other[start : start + chunk, None, :]).sum())
    return shared / one.numel()
