"""Linear maps between two spaces, from the moments of joined rows. Pure functions, float64, memory O((D + E)²)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rela_zoo.errors import TransportError
from rela_zoo.transport._linear import Affine
from rela_zoo.transport._moments import Moments

# Strengths tried for ridge regression, relative to the mean eigenvalue of the source's covariance.
RIDGE_STRENGTHS = tuple(10.0 ** (exponent / 2) for exponent in range(-16, 5))
# Directions of the source with a smaller share of the largest variance are rounding.
_RANK_TOLERANCE = 1e-10


class PairMoments(NamedTuple):
    """What one pass over joined rows leaves behind; x is the source of D features, y the target of E.

    Attributes:
        rows: how many were seen.
        x_mean: (D,) float64.
        y_mean: (E,) float64.
        xx: (D, D) float64 scatter, the sum over rows of (x − mean)(x − mean)ᵀ.
        xy: (D, E) float64.
        yy: (E, E) float64.
    """

    rows: int
    x_mean: Tensor
    y_mean: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor

    def swapped(self) -> PairMoments:
        """Those of the way back: source and target exchanged."""
        return PairMoments(self.rows, self.y_mean, self.x_mean, self.yy, self.xy.T, self.xx)


def split_moments(moments: Moments, dim: int) -> PairMoments:
    """Moments of rows [x, y] → those of the pair, x being the first `dim` features."""
    mean, scatter = moments.mean, moments.scatter
    return PairMoments(
        moments.rows, mean[:dim], mean[dim:], scatter[:dim, :dim], scatter[:dim, dim:], scatter[dim:, dim:]
    )


def r_squared(mapping: Affine, pair: PairMoments) -> float:
    """1 − Σ|y − f(x)|² / Σ|y − mean y|² over the rows behind `pair`; at most 1, negative where the mean does better.

    Exact from the moments, for any affine f: no row is read again. NaN where y does not vary.
    """
    weight, bias = mapping.weight.double(), mapping.bias.double()
    off = pair.y_mean - pair.x_mean @ weight - bias
    total = pair.yy.trace()
    if float(total) <= 0:
        return float("nan")
    scatter = total - 2 * (weight * pair.xy).sum() + (weight * (pair.xx @ weight)).sum()
    return float(1 - (scatter + pair.rows * off.square().sum()) / total)


class RidgePath:
    """Least squares with a penalty on the weights, for any strength after one decomposition.

    Hoerl and Kennard 1970. The bias is not penalised.

    Args:
        pair: moments of the rows to fit.

    Raises:
        TransportError: the source does not vary.
    """

    def __init__(self, pair: PairMoments) -> None:
        self._pair = pair
        values, self._vectors = _eigen(pair.xx)
        self._values = values.clamp(min=0)
        self._rotated = self._vectors.T @ pair.xy
        self._mean_value = float(self._values.mean())

    def at(self, strength: float) -> Affine:
        """The map at a strength ≥ 0, relative to the mean eigenvalue of the source's covariance."""
        inverse = 1 / (self._values + strength * self._mean_value).clamp(
            min=_RANK_TOLERANCE * float(self._values.max())
        )
        return _around_means(self._vectors @ (inverse[:, None] * self._rotated), self._pair)

    def best(self, other: PairMoments) -> float:
        """The strength among `RIDGE_STRENGTHS` that explains most of the rows behind `other`."""
        return max(RIDGE_STRENGTHS, key=lambda strength: r_squared(self.at(strength), other))


def procrustes_map(pair: PairMoments) -> Affine:
    """The best rotation with one scale (Schönemann 1966; Gower and Dijksterhuis 2004).

    For D = E the exact minimiser of Σ|y − s·x·Q − b|². For other widths the narrower space is given further features
    of zero, the square problem is solved, and what belongs to those features is dropped.

    Raises:
        TransportError: the source does not vary.
    """
    _refuse_constant(pair.xx)
    left, _, right = torch.linalg.svd(pair.xy, full_matrices=False)
    rotation = left @ right
    moved = (rotation * (pair.xx @ rotation)).sum()
    scale = (rotation * pair.xy).sum() / moved if float(moved) > 0 else torch.zeros((), dtype=torch.float64)
    return _around_means(scale * rotation, pair)


def whitened_map(pair: PairMoments) -> Affine:
    """Whiten the source, rotate by canonical correlations, colour as the target (CCA; Hotelling 1936).

    Keeps the target's variance along every canonical direction, where least squares shrinks it by the correlation.

    Raises:
        TransportError: the source does not vary.
    """
    x_white, _ = _roots(pair.xx)
    y_white, y_colour = _roots(pair.yy)
    left, _, right = torch.linalg.svd(x_white @ pair.xy @ y_white, full_matrices=False)
    return _around_means(x_white @ left @ right @ y_colour, pair)


def _around_means(weight: Tensor, pair: PairMoments) -> Affine:
    return Affine(weight, pair.y_mean - pair.x_mean @ weight)


def _refuse_constant(scatter: Tensor) -> None:
    if float(scatter.diagonal().max()) <= 0:
        raise TransportError(
            "a transport can't be fitted between these priors",
            expected="rows that differ from each other",
            got="the same row for every sample",
            fix="check the embeddings of the source and of the target",
        )


def _eigen(scatter: Tensor) -> tuple[Tensor, Tensor]:
    _refuse_constant(scatter)
    return torch.linalg.eigh((scatter + scatter.T) / 2)


def _roots(scatter: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric S^(−1/2) and S^(1/2), both zero in the directions that don't vary."""
    values, vectors = _eigen(scatter)
    kept = values > _RANK_TOLERANCE * values.max()
    values, vectors = values[kept].sqrt(), vectors[:, kept]
    return (vectors / values) @ vectors.T, (vectors * values) @ vectors.T
