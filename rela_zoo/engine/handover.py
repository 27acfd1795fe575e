"""The rules that end the accelerated stage.

Everything here lives on the device of the loss: no value is read by the host until someone asks for it.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Handover(Protocol):
    """When the accelerated stage ends: once and for good.

    Attributes:
        known_to_host: whether asking `handed_over` costs nothing; else it waits for the device.
    """

    known_to_host: bool

    def update(self, loss: Tensor | float) -> Tensor:
        """Take the mean loss of one optimiser step; returns ρ, a scalar in [0, 1]."""
        ...

    @property
    def handed_over(self) -> bool:
        """Whether the stage has ended. Reads from the device."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Averages and ρ, for a checkpoint."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        ...


class AdaptiveHandover:
    """Hands over when two running averages of the loss have met.

    After an optimiser step with mean loss c: ρ = exp(−max(slow − fast, 0)); fast ← 0.999·fast + 0.001·c;
    slow ← 0.99·slow + 0.01·fast; handed over from the first ρ ≥ 0.995 on. Starts at slow = 2, fast = 1, ρ = 0.
    The averages are float64 on the device of the first loss (float32 on devices without float64).

    Examples:
        >>> from rela_zoo import AdaptiveHandover
        >>> handover = AdaptiveHandover()
        >>> for step in range(3000):  # an optimiser step each, with its mean loss
        ...     rho = handover.update(0.5)
        >>> handover.handed_over
        True

    Source: ReLA (arXiv 2405.14669), adaptive λ, as in its reference code.
    """

    THRESHOLD = 0.995
    known_to_host = False

    def __init__(self) -> None:
        self.slow, self.fast, self.rho = (torch.tensor(value, dtype=torch.float64) for value in (2.0, 1.0, 0.0))
        self._done = torch.tensor(False)

    def update(self, loss: Tensor | float) -> Tensor:
        """Take the mean loss of one optimiser step, over ranks and accumulated micro-batches; returns ρ (scalar)."""
        value = torch.as_tensor(loss).detach()
        if value.device != self.slow.device:
            self._move(value.device)
        value = value.to(self.slow.dtype)
        self.rho = torch.exp(-torch.clamp(self.slow - self.fast, min=0.0))
        self.fast = 0.999 * self.fast + 0.001 * value
        self.slow = 0.99 * self.slow + 0.01 * self.fast
        self._done = self._done | (self.rho >= self.THRESHOLD)
        return self.rho

    @property
    def handed_over(self) -> bool:
        """Whether ρ has ever reached the threshold. Reads from the device: ask at decisions, not at every step."""
        return bool(self._done)

    def _move(self, device: torch.device) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.slow, self.fast, self.rho = (x.to(dtype).to(device) for x in (self.slow, self.fast, self.rho))
        self._done = self._done.to(device)

    def state_dict(self) -> dict[str, Tensor]:
        """slow, fast, rho (scalars) and done (bool), on the CPU."""
        return {name: value.cpu() for name, value in self._parts().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` gave."""
        self.slow, self.fast, self.rho = (state[name].clone() for name in ("slow", "fast", "rho"))
        self._done = state["done"].clone()

    def _parts(self) -> dict[str, Tensor]:
        return {"slow": self.slow, "fast": self.fast, "rho": self.rho, "done": self._done}


class ConstantHandover:
    """Hands over after a set fraction of the optimiser steps; ρ is 0 before and 1 after.

    Args:
        steps: optimiser steps of the accelerated stage, ≥ 0; 0 hands over at once, None never.

    Examples:
        >>> from rela_zoo import ConstantHandover
        >>> handover = ConstantHandover(steps=2)
        >>> [float(handover.update(loss)) for loss in (0.9, 0.8, 0.7)]
        [0.0, 1.0, 1.0]
    """

    known_to_host = True

    def __init__(self, steps: int | None) -> None:
        if steps is not None and steps < 0:
            raise ValueError(f"expected a number of steps ≥ 0, got {steps}")
        self._steps, self._seen = steps, 0

    def update(self, loss: Tensor | float) -> Tensor:
        """Count one optimiser step; the loss plays no part. Returns ρ (scalar)."""
        self._seen += 1
        return torch.tensor(float(self.handed_over))

    @property
    def handed_over(self) -> bool:
        """Whether the set number of steps has been made."""
        return self._steps is not None and self._seen >= self._steps

    def state_dict(self) -> dict[str, Tensor]:
        """The count of steps so far; how many there are to be is a matter of the configuration."""
        return {"seen": torch.tensor(self._seen)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` gave."""
        self._seen = int(state["seen"])


class PlateauHandover:
    """Hands over when the loss has stopped falling, measured against its own fall so far and the length of the run.

    Two running averages of the loss, over a fiftieth and over a tenth of the run, free of the bias of their start. It
    fires when the gap between them (how much the loss has fallen of late) is at most 2 % of what the fast one has
    fallen since the first fiftieth; not in the first tenth. So neither another scale of the loss nor an offset, nor a
    run of another length changes at which fraction of it the rule fires. The averages are float64 on the device of
    the first loss (float32 on devices without float64).

    Args:
        steps: optimiser steps of the whole run, ≥ 1.

    Examples:
        >>> from rela_zoo.engine import PlateauHandover
        >>> handover = PlateauHandover(steps=1000)
        >>> fired = 0
        >>> while not handover.handed_over:  # falls over the first 200 steps, then stays
        ...     fired += 1
        ...     _ = handover.update(max(1.0 - fired / 200, 0.0))
        >>> 250 < fired < 700
        True
    """

    FAST, SLOW, EARLIEST, GAP = 0.02, 0.1, 0.1, 0.02
    known_to_host = False

    def __init__(self, steps: int) -> None:
        if steps < 1:
            raise ValueError(f"expected at least one step, got {steps}")
        self._steps = steps
        # Weight of what came before, of the fast average and of the slow one.
        self._kept = torch.tensor([max(0.0, 1.0 - 1.0 / max(1.0, share * steps)) for share in (self.FAST, self.SLOW)])
        self._kept = self._kept.double()
        self._sums, self._weights = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
        self._first, self._done = torch.tensor(float("nan"), dtype=torch.float64), torch.tensor(False)
        self._seen = 0

    def update(self, loss: Tensor | float) -> Tensor:
        """Take the mean loss of one optimiser step; returns the share of the way to the handover (scalar in [0, 1])."""
        value = torch.as_tensor(loss).detach()
        if value.device != self._sums.device:
            self._move(value.device)
        value = value.to(self._sums.dtype)
        self._seen += 1
        self._sums = self._kept * self._sums + (1 - self._kept) * value
        self._weights = self._kept * self._weights + (1 - self._kept)
        fast, slow = self._sums / self._weights
        if self._seen == max(1, round(self.FAST * self._steps)):
            self._first = fast
        fallen, gap = self._first - fast, slow - fast
        if self._seen >= self.EARLIEST * self._steps:
            self._done = self._done | (gap <= self.GAP * torch.clamp(fallen, min=0.0))
        closed = 1.0 - torch.clamp(gap / torch.clamp(fallen, min=1e-12), 0.0, 1.0)
        return torch.where(self._done, torch.ones_like(closed), torch.nan_to_num(closed, nan=0.0))

    @property
    def handed_over(self) -> bool:
        """Whether the rule has ever fired. Reads from the device."""
        return bool(self._done)

    def _move(self, device: torch.device) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        for name in ("_kept", "_sums", "_weights", "_first"):
            setattr(self, name, getattr(self, name).to(dtype).to(device))
        self._done = self._done.to(device)

    def state_dict(self) -> dict[str, Tensor]:
        """Sums and weights of the averages (2,), the first fast average, and whether it has fired, on the CPU."""
        parts = {"sums": self._sums, "weights": self._weights, "first": self._first, "done": self._done}
        return {**{name: value.cpu() for name, value in parts.items()}, "seen": torch.tensor(self._seen)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` gave."""
        self._kept = self._kept.cpu()
        self._sums, self._weights, self._first = (state[name].clone() for name in ("sums", "weights", "first"))
        self._done, self._seen = state["done"].clone(), int(state["seen"])
