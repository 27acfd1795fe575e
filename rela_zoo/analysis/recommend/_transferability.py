"""How well features serve known classes, without training a network: LogME and H-score. Pure functions, float64."""

from __future__ import annotations

import math

import numpy as np

_RANK_TOLERANCE = 1e-10
_ROUNDS = 100


def log_me(features: np.ndarray, labels: np.ndarray) -> float:
    """Mean maximum log evidence a sample of Bayesian linear models, one a class against the rest.

    You et al. 2021, arXiv 2102.11005, section 4 and algorithm 1, by one singular value decomposition for all classes.

    Args:
        features: (N, D) floating, N ≥ 2.
        labels: (N,) integers, at least two classes.

    Returns:
        The evidence in nats; more is better. Only differences on the same samples mean something.

    Raises:
        ValueError: shapes that don't fit together, one class only, values that aren't finite.
    """
    x, y = _checked(features, labels)
    left, values, _ = np.linalg.svd(x, full_matrices=False)
    kept = values > values.max() * _RANK_TOLERANCE if values.max() > 0 else np.zeros(len(values), bool)
    left, squares = left[:, kept], values[kept] ** 2
    evidences = [_evidence(left, squares, (y == one).astype(np.float64), x.shape[1]) for one in np.unique(y)]
    return float(np.mean(evidences))


def _evidence(left: np.ndarray, squares: np.ndarray, y: np.ndarray, dim: int) -> float:
    """Maximum over prior precision a and noise precision b of the log evidence, over N, by MacKay's fixed point."""
    n = len(y)
    projected = left.T @ y
    outside = max(float(y @ y - projected @ projected), 0.0)
    a = b = 1.0
    for _ in range(_ROUNDS):
        ratio = a / b
        # Weights in the basis of the right singular vectors, their square norm, and the residual's.
        weights = float((squares * projected**2 / (squares + ratio) ** 2).sum())
        residual = outside + float((projected**2 * (ratio / (squares + ratio)) ** 2).sum())
        gamma = float((squares / (squares + ratio)).sum())
        a = gamma / max(weights, 1e-12)
        b = (n - gamma) / max(residual, 1e-12)
        if abs(a / b - ratio) <= 1e-6 * ratio:
            break
    ratio = a / b
    weights = float((squares * projected**2 / (squares + ratio) ** 2).sum())
    residual = outside + float((projected**2 * (ratio / (squares + ratio)) ** 2).sum())
    log_det = float(np.log(a + b * squares).sum()) + (dim - len(squares)) * math.log(a)
    total = n * math.log(b) + dim * math.log(a) - n * math.log(2 * math.pi) - b * residual - a * weights - log_det
    return total / 2 / n


def h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """Share of the features' whitened variance that lies between classes, with a shrunken covariance.

    tr(cov_α(f)⁻¹ (1 − α) cov(E[f | y])), α by Ledoit and Wolf 2004. Bao et al. 2019 (ICIP, definition 2) have α = 0,
    which is at its maximum for any features once D reaches N; Ibrahim, Ponomareva and Mazumder 2021 (arXiv 2110.06893)
    shrink.

    Args:
        features: (N, D) floating, N ≥ 2.
        labels: (N,) integers, at least two classes.

    Returns:
        In [0, classes − 1]; more is better; 0 when the features don't vary.

    Raises:
        ValueError: shapes that don't fit together, one class only, values that aren't finite.
    """
    from sklearn.covariance import ledoit_wolf

    x, y = _checked(features, labels)
    x = x - x.mean(0)
    if not x.any():
        return 0.0
    classes, of_row = np.unique(y, return_inverse=True)
    means = np.stack([x[of_row == one].mean(0) for one in range(len(classes))])
    covariance, shrinkage = ledoit_wolf(x, assume_centered=True)
    between = (means * np.bincount(of_row)[:, None]).T @ means / len(x)
    return float((1 - shrinkage) * np.trace(np.linalg.solve(covariance, between)))


def _checked(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(features, np.float64), np.asarray(labels)
    if x.ndim != 2 or y.shape != (len(x),) or len(x) < 2:
        raise ValueError(f"expected features (N, D) and labels (N,), got {x.shape} and {y.shape}")
    if not np.isfinite(x).all():
        raise ValueError("expected finite features, got NaN or infinity")
    if len(np.unique(y)) < 2:
        raise ValueError("expected at least two classes, got one")
    return x, y
