"""The running discrepancy of every sample: noted batch by batch on the device, read once an epoch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# A tensor of this rank → its sum over all ranks.
Reduce = Callable[[Tensor], Tensor]


class RunningLosses:
    """An exponential average of each sample's accelerated loss, over the epochs in which it was drawn.

    Args:
        n: N, samples in the data set.
        momentum: of the average, in [0, 1); 0 keeps the last value alone.
    """

    def __init__(self, n: int, momentum: float) -> None:
        self._momentum = momentum
        self._values = torch.full((n,), float("nan"))
        # Sums and counts of the epoch under way, on the device of the losses.
        self._now = torch.zeros(2, n)

    @property
    def values(self) -> Tensor:
        """(N,) float32 on the CPU; NaN for samples not seen yet. Changes only at the end of an epoch."""
        return self._values

    def observe(self, indices: Tensor, losses: Tensor) -> None:
        """Note the losses of a batch; nothing is read back from the device.

        Args:
            indices: (B,) int64, which samples.
            losses: (B,) float, without gradient, on the same device.
        """
        if self._now.device != losses.device:
            self._now = self._now.to(losses.device)
        values = losses.float()
        self._now.index_add_(1, indices, torch.stack([values, torch.ones_like(values)]))

    def end_epoch(self, reduce: Reduce) -> None:
        """Take what was noted into the averages; all ranks come to the same. A second call changes nothing."""
        sums, counts = reduce(self._now).cpu()
        seen = counts > 0
        fresh = sums[seen] / counts[seen]
        before = self._values[seen]
        mixed = self._momentum * before + (1.0 - self._momentum) * fresh
        self._values = self._values.clone()
        self._values[seen] = torch.where(before.isnan(), fresh, mixed)
        self._now.zero_()

    def state_dict(self, reduce: Reduce) -> dict[str, Tensor]:
        """`values` (N,), and `now` (2, N) of the epoch under way over all ranks; called on all of them."""
        return {"values": self._values.clone(), "now": reduce(self._now).cpu().clone()}

    def load_state_dict(self, state: dict[str, Tensor], rank: int) -> None:
        """Go on from what `state_dict` gave; what was noted by all ranks goes to the first."""
        self._values = state["values"].clone()
        self._now = state["now"].clone() if rank == 0 else torch.zeros_like(state["now"])
