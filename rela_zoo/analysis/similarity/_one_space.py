"""One space of embeddings: spectrum, effective rank, intrinsic dimension, nearest rows; and the checks of rows."""

from __future__ import annotations

import torch
from torch import Tensor

_EPSILON = 1e-7


def check_rows(x: Tensor, at_least: int = 2) -> Tensor:
    """Rows (N, D) as float64.

    Raises:
        ValueError: too few rows, another number of axes, values that are not finite.
    """
    if x.ndim != 2 or len(x) < at_least or x.shape[1] == 0:
        raise ValueError(f"expected at least {at_least} rows of shape (N, D), got {tuple(x.shape)}")
    rows = x.to(torch.float64)
    if not torch.isfinite(rows).all():
        raise ValueError("expected finite rows, got NaN or infinity")
    return rows


def centred(x: Tensor) -> Tensor:
    """Rows without their mean; exactly zero where only the rounding of the mean would be left."""
    rows = x - x.mean(0)
    return torch.where(rows.abs().amax(0) > 1e-14 * x.abs().amax(0), rows, 0.0)


def varies(x: Tensor) -> bool:
    """Whether centred rows differ at all."""
    return bool(x.abs().max() > 0)


def explained_variance(x: Tensor) -> Tensor:
    """Share of the variance along each principal direction.

    Args:
        x: (N, D) floating, N ≥ 2.

    Returns:
        (min(N, D),) float64, falling, with sum 1; zeros when all rows are equal.

    Raises:
        ValueError: rows that aren't finite.
    """
    powers = torch.linalg.svdvals(centred(check_rows(x))).square()
    return powers / powers.sum() if powers.sum() > 0 else powers


def participation_ratio(x: Tensor) -> float:
    """(Σλ)² / Σλ² of the covariance's eigenvalues, in [1, D]: how many directions share the variance.

    Args:
        x: (N, D) floating, N ≥ 2.

    Returns:
        the ratio; NaN when all rows are equal.

    Raises:
        ValueError: rows that aren't finite.
    """
    shares = explained_variance(x)
    return float(1 / shares.square().sum()) if shares.sum() > 0 else float("nan")


def effective_rank(x: Tensor) -> float:
    """RankMe: exp of the entropy of the normalised singular values, in [1, min(N, D)].

    Of the rows as they are, not centred. Garrido et al. 2023, arXiv 2210.02885, equation 1; Roy and Vetterli 2007.

    Args:
        x: (N, D) floating, N ≥ 2.

    Returns:
        the rank; NaN when all values are zero.

    Raises:
        ValueError: rows that aren't finite.
    """
    values = torch.linalg.svdvals(check_rows(x))
    if values.sum() <= 0:
        return float("nan")
    shares = values / values.sum() + _EPSILON
    return float(torch.exp(-(shares * shares.log()).sum()))


def two_nn_dimension(x: Tensor, chunk: int = 1024, discard: float = 0.1) -> float:
    """Intrinsic dimension from the ratio of the distances to the second and first nearest row (TwoNN).

    Facco et al. 2017, doi 10.1038/s41598-017-11873-y: the slope through the origin of −log(1 − F(μ)) over log μ.

    Args:
        x: (N, D) floating, N ≥ 10; rows that occur twice are left out.
        chunk: rows compared with all at once: memory is chunk × N.
        discard: the part of the largest ratios that is left out, in [0, 1).

    Returns:
        the dimension; NaN when fewer than ten distinct rows remain.

    Raises:
        ValueError: rows that aren't finite.
    """
    rows = torch.unique(check_rows(x, at_least=10), dim=0)
    if len(rows) < 10 or not varies(centred(rows)):
        return float("nan")
    ratios = []
    for start in range(0, len(rows), chunk):
        # The exact way, not by inner products: the nearest distances are small beside the rows.
        piece = rows[start : start + chunk]
        distances = torch.cdist(piece, rows, compute_mode="donot_use_mm_for_euclid_dist")
        own = torch.arange(len(piece), device=rows.device)
        distances[own, own + start] = torch.inf
        first, second = distances.topk(2, dim=1, largest=False).values.T
        ratios.append(second / first)
    mu = torch.cat(ratios).sort().values
    kept = max(2, int(len(mu) * (1 - discard)))
    empirical = torch.arange(1, kept + 1, device=mu.device, dtype=torch.float64) / len(mu)
    across, up = mu[:kept].log(), -torch.log1p(-empirical.clamp(max=1 - 1e-12))
    total = across.square().sum()
    return float((across * up).sum() / total) if total > 0 else float("nan")


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
    rows = check_rows(x)
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
