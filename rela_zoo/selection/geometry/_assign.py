"""Every point to its nearest centroid, block by block."""

from __future__ import annotations

import numpy as np
import torch

# A block of distances to a thousand centroids stays within the caches of a core; larger ones gain nothing.
_BLOCK = 4096


@torch.no_grad()
def assign(
    points: np.ndarray, centroids: np.ndarray, device: str | torch.device | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centroid of each point. Time O(N·k·d), memory O(N + block·k).

    Args:
        points: (N, d) float32.
        centroids: (k, d) float32.
        device: where products are made; None takes the CPU.

    Returns:
        labels (N,) int32 in [0, k) and Euclidean distances (N,) float32. A label may miss the nearest by the rounding
        of float32; the distance is exact for the centroid named.
    """
    every = torch.from_numpy(np.ascontiguousarray(centroids, np.float32)).to(device)
    squares, across = every.square().sum(1), every.T.contiguous()
    labels = np.empty(len(points), np.int32)
    distances = np.empty(len(points), np.float32)
    for start in range(0, len(points), _BLOCK):
        block = torch.from_numpy(points[start : start + _BLOCK]).to(device)
        # |x|² is the same for all centroids, so the nearest is known without it.
        own = torch.addmm(squares, block, across, alpha=-2).min(1).indices
        # Not from that product: small distances would be what its rounding leaves.
        distances[start : start + _BLOCK] = (block - every[own]).norm(dim=1).cpu().numpy()
        labels[start : start + _BLOCK] = own.cpu().numpy()
    return labels, distances


@torch.no_grad()
def nearest_labels(
    points: np.ndarray, centroids: np.ndarray, count: int, device: str | torch.device | None = None
) -> np.ndarray:
    """The `count` ≤ k nearest centroids of each point, nearest first up to rounding: (N, count) int32. See `assign`."""
    every = torch.from_numpy(np.ascontiguousarray(centroids, np.float32)).to(device)
    squares, across = every.square().sum(1), every.T.contiguous()
    labels = np.empty((len(points), count), np.int32)
    for start in range(0, len(points), _BLOCK):
        block = torch.from_numpy(points[start : start + _BLOCK]).to(device)
        near = torch.addmm(squares, block, across, alpha=-2).topk(count, 1, largest=False).indices
        labels[start : start + _BLOCK] = near.cpu().numpy()
    return labels
