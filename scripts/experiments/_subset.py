"""The seam between the training loop and the policies that choose each epoch's samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rela_zoo.selection import build_subset, parse_selection
from rela_zoo.selection.geometry.space import MemorySpace
from rela_zoo.selection.subset import Draw, Subset
from rela_zoo.transport import TargetTransport


class Draws:
    """What the training loop asks of a policy.

    Args:
        subset: of the policy; its epochs are of one size.
    """

    def __init__(self, subset: Subset) -> None:
        self._subset = subset

    def draw(self, epoch: int) -> Draw:
        """The samples of `epoch` ≥ 0; the same number in every epoch."""
        return self._subset.draw(epoch)

    def observe(self, indices: Tensor, losses: Tensor) -> None:
        """Take the accelerated losses (B,) of a batch of samples `indices` (B,), both on the device."""
        if self._subset.losses is not None:
            self._subset.losses.observe(indices, losses)

    def end_epoch(self) -> None:
        """The epoch is over; the host may read from the device now."""
        if self._subset.losses is not None:
            self._subset.losses.end_epoch(lambda sums: sums)


def build(
    settings: dict[str, Any],
    *,
    n: int,
    rows: Tensor | None,
    transport: TargetTransport | None = None,
    device: torch.device | None = None,
) -> Draws:
    """The policy of a run.

    Args:
        settings: of the run: `selection`, `data_ratio`, `seed`, `epochs`.
        n: training images.
        rows: (n, D) embeddings by the prior, None without one.
        transport: fitted on them, None without a prior.
        device: where clusters and the like are computed; None takes the CPU.

    Raises:
        ValueError: for a policy that is not there, or whose epochs differ in size.
    """
    config, problems = parse_selection(settings["selection"], settings["data_ratio"], "selection")
    if problems:
        raise ValueError("\n".join(str(problem) for problem in problems))
    space = None
    if rows is not None and transport is not None:
        space = MemorySpace(rows, transport, device=device)
    ratio, seed, epochs = settings["data_ratio"], settings["seed"], settings["epochs"]
    subset = build_subset(config, n=n, ratio=ratio, seed=seed, epochs=epochs, space=space)
    if subset.counts is not None:
        raise ValueError("expected a curriculum without `growth`: here all epochs are of one size")
    return Draws(subset)
