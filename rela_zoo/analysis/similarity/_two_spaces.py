"""How alike two spaces are: kernel alignment, canonical correlations, Procrustes distance, shared neighbours.

Time O(N·D·E), memory O(D·E): no N × N matrix is made.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rela_zoo.analysis.similarity._one_space import centred, check_rows, nearest, varies

# Directions whose singular value is below this part of the largest are rounding of float16 rows, not signal.
_RANK_TOLERANCE = 1e-10


def _paired(x: Tensor, y: Tensor, at_least: int = 2) -> tuple[Tensor, Tensor]:
    """Two sets of rows (N, D) and (N, E) as float64.

    Raises:
        ValueError: different or too few rows, another number of axes, values that are not finite.
    """
    if x.ndim == 2 and y.ndim == 2 and len(x) != len(y):
        raise ValueError(f"expected rows of the same samples, got {len(x)} and {len(y)}")
    return check_rows(x, at_least), check_rows(y, at_least)


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Linear CKA, in [0, 1]: ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) of centred rows, Frobenius norms.

    Unchanged by rotation, by one scale for all features, and by translation. Biased upwards where N is not large
    beside the dimensions: see `debiased_cka`. Kornblith et al. 2019, arXiv 1905.00414, section 3.

    Args:
        x: (N, D) floating, N ≥ 2.
        y: (N, E) floating, the same samples in the same order.

    Returns:
        the alignment; NaN when all rows of one side are equal.

    Raises:
        ValueError: rows that don't fit together, or aren't finite.
    """
    x, y = (centred(rows) for rows in _paired(x, y))
    if not (varies(x) and varies(y)):
        return float("nan")
    # Scaled first, so that squares of squares neither overflow nor vanish.
    x, y = x / x.norm(), y / y.norm()
    return float((x.T @ y).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))


def debiased_cka(x: Tensor, y: Tensor) -> float:
    """CKA with the unbiased estimate of HSIC: about 0 for independent rows, whatever the dimensions; may be negative.

    HSIC₁ of Song et al. 2012 (equation 5), used as CKA by Nguyen, Raghu and Kornblith 2021 (arXiv 2010.15327). For
    linear kernels every term is a sum over rows, so that no kernel matrix is made.

    Args:
        x: (N, D) floating, N ≥ 4.
        y: (N, E) floating, the same samples in the same order.

    Returns:
        the alignment, at most 1; NaN when the estimate of a side with itself isn't positive.

    Raises:
        ValueError: rows that don't fit together, or aren't finite.
    """
    # The estimate does not depend on the origin; centring only keeps the sums small.
    x, y = (centred(rows) for rows in _paired(x, y, at_least=4))
    if not (varies(x) and varies(y)):
        return float("nan")
    x, y = x / x.norm(), y / y.norm()
    own = _hsic(x, x), _hsic(y, y)
    if min(own) <= 0:
        return float("nan")
    return _hsic(x, y) / math.sqrt(own[0] * own[1])


def _hsic(x: Tensor, y: Tensor) -> float:
    """N(N−3) times the unbiased HSIC; K and L are x xᵀ and y yᵀ with the diagonal set to zero."""
    n = len(x)
    x_squares, y_squares = x.square().sum(1), y.square().sum(1)
    # Row sums of K: x_i · Σ_j x_j − |x_i|².
    k_sums, l_sums = x @ x.sum(0) - x_squares, y @ y.sum(0) - y_squares
    trace = (x.T @ y).square().sum() - (x_squares * y_squares).sum()
    outer = k_sums.sum() * l_sums.sum() / ((n - 1) * (n - 2))
    return float(trace + outer - 2 / (n - 2) * (k_sums * l_sums).sum())


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
    x, y = (centred(rows) for rows in _paired(x, y))
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
    x, y = (centred(rows) for rows in _paired(x, y))
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
    x, y = (centred(rows) for rows in _paired(x, y))
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
    x, y = (centred(rows) for rows in _paired(x, y))
    if not (varies(x) and varies(y)):
        return float("nan")
    x, y = x / x.norm(), y / y.norm()
    return float((2 - 2 * torch.linalg.svdvals(x.T @ y).sum()).clamp(0, 2))


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
    x, y = _paired(x, y)
    one, other = nearest(x, k, chunk), nearest(y, k, chunk).to(x.device)
    shared = 0
    for start in range(0, len(one), chunk):
        shared += int((one[start : start + chunk, :, None] == other[start : start + chunk, None, :]).sum())
    return shared / one.numel()
