"""k-means cells of the prior's space."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch

from rela_zoo.errors import EmbeddingsError
from rela_zoo.selection.geometry._assign import assign

# Centroids hardly move with more points each than this; faiss fits on as many (`max_points_per_centroid`).
_POINTS_PER_CLUSTER = 256
_BATCH = 4096
_PASSES = 10
_MOST_CLUSTERS = 4096


class Clusters(NamedTuple):
    """A partition of points around their means.

    Attributes:
        labels: (N,) int32 in [0, k), every one of them taken by some point.
        distances: (N,) float32, Euclidean, of each point to its own centroid.
        centroids: (k, d) float32.
    """

    labels: np.ndarray
    distances: np.ndarray
    centroids: np.ndarray


def default_clusters(n: int) -> int:
    """How many clusters for n ≥ 1 samples: √n, from 2 to 4096 (and never more than n).

    At √n clusters of about √n members each, comparing all members of each cluster (`near_duplicates`) costs as much
    as assigning all samples to centroids: n·√n products. 224 for CIFAR-10, 1132 for ImageNet-1K.
    """
    return min(n, _MOST_CLUSTERS, max(2, round(math.sqrt(n))))


def k_means(points: np.ndarray, k: int, seed: int, *, device: str | torch.device | None = None) -> Clusters:
    """Mini-batch k-means (Sculley 2010, as in scikit-learn, from k-means++), fitted on a sample where there are many.

    Centroids are fitted on at most 256·k points, drawn by the seed; then every point goes to the nearest. Clusters
    that get none are left out, so the result may have fewer than k. Equal arguments give equal results on the same
    machine, library versions and number of threads.

    Args:
        points: (N, d) float32, finite.
        k: number of clusters, in [1, N].
        seed: ≥ 0, of the sample and of the start.
        device: where points are assigned; None takes the CPU. The fit is on the CPU.

    Returns:
        The clusters.

    Raises:
        EmbeddingsError: k out of range.
    """
    from sklearn.cluster import MiniBatchKMeans

    if not 1 <= k <= len(points):
        raise EmbeddingsError(
            "there can't be that many clusters",
            expected=f"1 to {len(points)}, the number of samples",
            got=k,
            fix=f"ask for fewer, such as {default_clusters(max(len(points), 1))}",
        )
    draws, start = np.random.SeedSequence(seed).generate_state(2)
    sample = points
    if len(points) > _POINTS_PER_CLUSTER * k:
        picked = np.random.Generator(np.random.PCG64(draws)).choice(len(points), _POINTS_PER_CLUSTER * k, replace=False)
        sample = points[np.sort(picked)]
    fitted = MiniBatchKMeans(
        k,
        batch_size=_BATCH,
        max_iter=_PASSES,
        n_init=1,
        # k-means++ among ten times as many points as clusters: its time is k · init_size.
        init_size=min(len(sample), 10 * k),
        random_state=int(start),
    ).fit(sample)
    centroids = np.ascontiguousarray(fitted.cluster_centers_, np.float32)
    labels, distances = assign(points, centroids, device)
    taken, dense = np.unique(labels, return_inverse=True)
    return Clusters(dense.astype(np.int32), distances, centroids[taken])
