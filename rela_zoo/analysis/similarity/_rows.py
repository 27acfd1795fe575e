"""Rows made ready for a comparison: float64, finite, of the same samples."""

from __future__ import annotations

import torch
from torch import Tensor


def paired(x: Tensor, y: Tensor, at_least: int = 2) -> tuple[Tensor, Tensor]:
    """Two sets of rows (N, D) and (N, E) as float64.

    Raises:
        ValueError: different or too few rows, another number of axes, values that are not finite.
    """
    if x.ndim == 2 and y.ndim == 2 and len(x) != len(y):
        raise ValueError(f"expected rows of the same samples, got {len(x)} and {len(y)}")
    return single(x, at_least), single(y, at_least)


def single(x: Tensor, at_least: int = 2) -> Tensor:
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
