"""How near rows that were computed otherwise are to the rows they stand for."""

from __future__ import annotations

from typing import NamedTuple

import torch

# Rows that are further than this from those of float32 are rows of something else, and are not made: the angle of any
# image, and the length of the difference as a part of the row's.
LEAST_COSINE, MOST_DIFFERENCE = 0.999, 0.05


class Agreement(NamedTuple):
    """How near rows of a lower precision are to those of float32, at worst.

    Attributes:
        cosine: smallest of any image.
        difference: largest length of a difference, as a part of the row's.
    """

    cosine: float
    difference: float


def agreement(lower: torch.Tensor, full: torch.Tensor) -> Agreement:
    """Rows (N, D) against rows (N, D) of the same images."""
    a, b = lower.double(), full.double()
    size = b.norm(dim=1).clamp_min(1e-30)
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=1)
    return Agreement(float(cosine.min()), float(((a - b).norm(dim=1) / size).max()))
