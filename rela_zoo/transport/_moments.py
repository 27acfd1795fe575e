"""Mean and scatter of rows in one pass: pure functions, float64, memory O(D²)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rela_zoo.errors import TransportError


class Moments(NamedTuple):
    """What one pass over rows leaves behind.

    Attributes:
        rows: how many were seen.
        mean: (D,) float64.
        scatter: (D, D) float64, the sum over rows of (row − mean)(row − mean)ᵀ.
    """

    rows: int
    mean: Tensor
    scatter: Tensor

    @property
    def covariance(self) -> Tensor:
        """(D, D) float64, divided by N: the population covariance."""
        return self.scatter / self.rows


def chunk_moments(rows: Tensor) -> Moments:
    """Moments of rows (n, D), n ≥ 1, of any floating dtype, on their device.

    Rows are centred before they are multiplied: a scatter made of raw products would lose every digit of features
    whose mean is large beside their deviation.

    Raises:
        TransportError: a value that is not finite.
    """
    wide = rows.to(torch.float64, copy=True)
    mean = wide.mean(0)
    if not torch.isfinite(mean).all():  # a NaN or an infinity of any row reaches the mean
        row = int((~torch.isfinite(wide)).any(1).nonzero()[0])
        raise TransportError(
            "a row has values that are not finite",
            expected="finite numbers",
            got=f"NaN or infinity in row {row} of a piece of {len(rows)} rows",
            fix="compute the embeddings again, and check the prior's weights",
        )
    centred = wide.sub_(mean)
    return Moments(len(rows), mean, centred.T @ centred)


def merge_moments(left: Moments, right: Moments) -> Moments:
    """Moments of two sets of rows together (Chan, Golub and LeVeque 1983, equation 2.1b, for matrices)."""
    count = left.rows + right.rows
    delta = right.mean - left.mean
    mean = left.mean + delta * (right.rows / count)
    between = torch.outer(delta, delta) * (left.rows * right.rows / count)
    return Moments(count, mean, left.scatter + right.scatter + between)
