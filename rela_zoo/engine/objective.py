"""The accelerated stage's loss, and the head in front of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def cosine_discrepancy(predictions: Tensor, targets: Tensor) -> Tensor:
    """One minus the cosine between prediction and target, each sample on its own.

    Args:
        predictions: (B, k) float, outputs of the head.
        targets: (B, k) float, transported embeddings.

    Returns:
        (B,) float32, in [0, 2].

    Source: ReLA (arXiv 2405.14669), the loss of the accelerated stage.
    """
    return 1.0 - F.cosine_similarity(predictions.float(), targets.float(), dim=1)


def build_head(kind: str, features: int, targets: int, seed: int) -> nn.Module:
    """The map from a student's features to targets: (B, features) → (B, targets).

    Its own seed, without touching the run's generator: every rank gets the same head, and adding a head does not change
    how anything else is initialised.

    Args:
        kind: `frozen` (linear, random and fixed, as in the reference), `trained` (linear), or `mlp` (trained; one
            hidden layer, twice as wide as the features).
        features: width of the features, m.
        targets: width of the targets, k.
        seed: of the initial weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if kind == "mlp":
            return nn.Sequential(nn.Linear(features, 2 * features), nn.ReLU(), nn.Linear(2 * features, targets))
        return nn.Linear(features, targets).requires_grad_(kind != "frozen")
