"""Comparisons up to a linear map: canonical correlations, their summaries, and the Procrustes distance."""

from __future__ import annotations

import torch
from torch import Tensor

from rela_zoo.analysis.similarity._rows import centred, paired, varies

# Directions whose singular value is below this part of the largest are rounding of float16 rows, not signal.
_RANK_TOLERANCE = 1e-10


def _basis(x: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal columns (N, r) that span centred rows' features, and singular values (r,), largest first."""
    left, values, _ = torch.linalg.svd(x, full_matrices=False)
    rank = int((values > values[0] * _RANK_TOLERANCE).sum()) if values[0] > 0 else 0
    return left[:, :rank], values[:rank]


def canonical_correlations(x: Tensor, y: Tensor) -> Tensor:
    """Correlations of the best-matching directions of two spaces (Hotelling 1936).

    Unchanged by any invertible affine map of either side.

    Args:
        x: (N, D) floating, N ≥ 2.
        y: (N, E) floating, the same samples in the same order.

    Returns:
        (min(rank x, rank y),) float64 in [0, 1], falling; empty when a side is constant.

    Raises:
        ValueError: rows that don't fit together, or aren't finite.
    """
    x, y = (centred(rows) for rows in paired(x, y))
    return torch.linalg.svdvals(_basis(x)[0].T @ _basis(y)[0]).clamp(0, 1)


def svcca(x: Tensor, y: Tensor, variance: float = 0.99) -> float:
    """Mean canonical correlation of the leading directions of each side (Raghu et al. 2017, arXiv 1706.05806).

    Args:
        x: (N, D) floating, N ≥ 2.
        y: (N, E) floating, the same samples in the same order.
        variance: how much of each side's variance its kept directions hold, in (0, 1].

    Returns:
        in [0, 1]; NaN when a side is constant.

    Raises:
        ValueError: rows that don't fit together, or aren't finite.
    """
    if not 0 < variance <= 1:
        raise ValueError(f"expected a fraction of the variance in (0, 1], got {variance}")
    x, y = (centred(rows) for rows in paired(x, y))
    if not (varies(x) and varies(y)):
        return float("nan")
    kept = []
    for rows in (x, y):
        left, values = _basis(rows)
        share = values.square().cumsum(0) / values.square().sum()
        # The last one that is needed included; rounding may keep the sum a hair below 1.
        count = min(int((share < variance - 1e-12).sum()) + 1, len(values))
        kept.append(left[:, :count])
    return float(torch.linalg.svdvals(kept[0].T @ kept[1]).clamp(0, 1).mean())


def pwcca(x: Tensor, y: Tensor) -> float:
    """Canonical correlations weighted by how much of x their directions account for.

    Morcos, Raghu and Bengio 2018, arXiv 1806.05759, section 2.2; not symmetric: the weights are those of x.

    Args:
        x: (N, D) floating, N ≥ 2.
        y: (N, E) floating, the same samples in the same order.

    Returns:
        in [0, 1]; NaN when a side is constant.

    Raises:
        ValueError: rows that don't fit together, or aren't finite.
    """
    x, y = (centred(rows) for rows in paired(x, y))
    if not (varies(x) and varies(y)):
        return float("nan")
    x_basis = _basis(x)[0]
    turn, correlations, _ = torch.linalg.svd(x_basis.T @ _basis(y)[0], full_matrices=False)
    # Canonical variates of x, as unit vectors over the samples; their inner products with the features of x.
    weights = ((x_basis @ turn).T @ x).abs().sum(1)
    return float((weights * correlations.clamp(0, 1)).sum() / weights.sum())


def procrustes_distance(x: Tensor, y: Tensor) -> float:
    """Squared distance of two clouds of norm 1 after the best rotation: 2 − 2‖XᵀY‖₁ (nuclear norm), in [0, 2].

    0 for clouds that are equal up to rotation, one scale and translation; spaces of different width are compared as if
    the narrower had further features of zero. Ding, Denain and Steinhardt 2021, arXiv 2108.01661, section 2.

    Args:
        x: (N, D) floating, N ≥ 2.
        y: (N, E) floating, the same samples in the same order.

    Returns:
        the distance; NaN when a side is constant.

    Raises:
        ValueError: rows that don't fit together, or aren't finite.
    """
    x, y = (centred(rows) for rows in paired(x, y))
    if not (varies(x) and varies(y)):
        return float("nan")
    x, y = x / x.norm(), y / y.norm()
    return float((2 - 2 * torch.linalg.svdvals(x.T @ y).sum()).clamp(0, 2))
