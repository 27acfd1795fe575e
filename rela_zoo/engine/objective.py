"""The accelerated stage's loss, and the rules that end the stage.

Everything here lives on the device of the loss: no value is read by the host until someone asks for it.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


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

    Example:
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

    Example:
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
