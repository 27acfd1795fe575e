"""The seam between the training loop and the policies that choose each epoch's samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from rela_zoo.subset import EpochSubset


@dataclass(frozen=True)
class Draw:
    """The samples of one epoch.

    Attributes:
        indices: (k,) int64 on the CPU, in the order of training.
        weights: (k,) float32 of the samples' losses, or None where all count alike.
    """

    indices: Tensor
    weights: Tensor | None = None


class Subset(Protocol):
    """What the training loop asks of a policy."""

    def draw(self, epoch: int) -> Draw:
        """The samples of `epoch` ≥ 0; the same number in every epoch."""
        ...

    def observe(self, indices: Tensor, losses: Tensor) -> None:
        """Take the accelerated losses (B,) of a batch of samples `indices` (B,), both on the device."""
        ...

    def end_epoch(self) -> None:
        """The epoch is over; the host may read from the device now."""
        ...


class _Uniform:
    """A fresh uniform draw each epoch."""

    def __init__(self, n: int, ratio: float, seed: int) -> None:
        self._subset = EpochSubset(n, ratio, seed)

    def draw(self, epoch: int) -> Draw:
        return Draw(self._subset.indices(epoch))

    def observe(self, indices: Tensor, losses: Tensor) -> None:
        pass

    def end_epoch(self) -> None:
        pass


def build(settings: dict[str, Any], *, n: int, rows: Tensor | None) -> Subset:
    """The policy of a run.

    Args:
        settings: of the run: `selection`, `data_ratio`, `seed`, `epochs`.
        n: training images.
        rows: (n, D) embeddings by the prior, None without one.

    Raises:
        ValueError: for a policy that is not there.
    """
    if settings["selection"] == "uniform":
        return _Uniform(n, settings["data_ratio"], settings["seed"])
    raise ValueError(f"expected the selection `uniform`, got {settings['selection']!r}")


def weigh(features: Tensor, weights: Tensor | None) -> Tensor:
    """Let each sample's weight (B,) scale the gradient at its features (B, D); the values stay as they are.

    So weights act in a method's own stage, whose loss is not a sum over samples.
    """
    if weights is not None and features.requires_grad:
        scale = weights.view(-1, 1)
        features.register_hook(lambda gradient: gradient * scale.to(gradient.dtype))
    return features
