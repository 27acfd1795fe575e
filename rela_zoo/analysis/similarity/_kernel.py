"""Centred kernel alignment with linear kernels, by features: O(N·D·E) time, O(D·E) memory, never N × N."""

from __future__ import annotations

import math

from torch import Tensor

from rela_zoo.analysis.similarity._rows import centred, paired, varies


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
    x, y = (centred(rows) for rows in paired(x, y))
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
    x, y = (centred(rows) for rows in paired(x, y, at_least=4))
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
