"""Draws of a fixed size with given inclusion probabilities, and the weights that make their means unbiased.

Every policy says how much it wants each sample; from there on all of them go the same way: inclusion probabilities,
a systematic draw, and, if wanted, Horvitz-Thompson weights.
"""

from __future__ import annotations

import numpy as np


def inclusion_probabilities(scores: np.ndarray, count: int) -> np.ndarray:
    """Probabilities proportional to scores, none above 1, that add up to the size of the draw.

    Samples whose share would exceed 1 are taken for certain, and the rest is shared out among the others.

    Args:
        scores: (N,) float, ≥ 0 and finite; 0 keeps a sample out.
        count: k, the size of the draw, 1 ≤ k ≤ number of positive scores.

    Returns:
        (N,) float64 in [0, 1], with the sum k.

    Raises:
        ValueError: if a score is negative or not finite, or fewer than k are positive.

    Source: Särndal et al., Model Assisted Survey Sampling, section 3.6.1 (πps designs).
    """
    values = np.asarray(scores, np.float64)
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("expected finite scores ≥ 0")
    positive = int(np.count_nonzero(values))
    if not 1 <= count <= positive:
        raise ValueError(f"expected a draw of 1 to {positive} samples, as many as have a chance; got {count}")
    if positive == len(values) and (values == values[0]).all():
        return np.full(len(values), count / len(values))
    certain = np.zeros(len(values), bool)
    while True:
        rest = count - int(certain.sum())
        share = np.where(certain, 0.0, values)
        total = share.sum()
        if rest == 0 or total == 0.0:
            return certain.astype(np.float64)
        share *= rest / total
        # Equality too, else rounding could leave a share of 1 + 1e-16.
        over = share >= 1.0
        if not over.any():
            return np.where(certain, 1.0, share)
        certain |= over


def systematic_draw(
    probabilities: np.ndarray, count: int, generator: np.random.Generator, strata: np.ndarray | None = None
) -> np.ndarray:
    """Draw exactly `count` distinct samples, each with its own probability, in random order.

    The samples are laid out on a line in random order, each as long as its probability; a comb with teeth one apart,
    at a random offset, picks those it hits. With strata, samples of a stratum lie side by side, so that from each one
    as many are drawn as its probabilities add up to, rounded up or down.

    Args:
        probabilities: (N,) float64 in [0, 1], with the sum `count`.
        count: k ≥ 1.
        generator: the only source of chance.
        strata: (N,) int ≥ 0, the stratum of each sample; None for a single one.

    Returns:
        (k,) int64, distinct.

    Source: Madow 1949, "On the theory of systematic sampling, II", over a random order.
    """
    n = len(probabilities)
    order = generator.permutation(n)
    if strata is not None:
        places = generator.permutation(int(strata.max()) + 1).astype(np.int32)
        order = order[np.argsort(places[strata[order]], kind="stable")]
    edges = np.cumsum(probabilities[order])
    # Rounding over a million terms must not lose the last tooth.
    edges *= count / edges[-1]
    teeth = generator.random() + np.arange(count)
    hit = np.searchsorted(edges, teeth, side="right")
    # Two teeth may meet in one sample by rounding where a probability is 1; then the next sample is the right one.
    steps = np.arange(count)
    hit = np.maximum.accumulate(hit - steps) + steps
    hit = np.minimum(hit, n - count + steps)
    return generator.permutation(order[hit]).astype(np.int64)


def unbiased_weights(probabilities: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Weights with which the mean over a draw estimates the mean over all samples without bias.

    Args:
        probabilities: (N,) float64, with the sum k; positive for every sample, else the mean misses those.
        drawn: (k,) int64, the samples drawn.

    Returns:
        (k,) float32, (k/N)/π of each; 1 where all probabilities are equal.

    Source: Horvitz and Thompson 1952, "A generalization of sampling without replacement from a finite universe".
    """
    return (len(drawn) / len(probabilities) / probabilities[drawn]).astype(np.float32)
