"""Losses that are not finite: noticed on the device at each step, read now and then, and reported with their step."""

from __future__ import annotations

import torch
from torch import Tensor

from rela_zoo._io import ranks
from rela_zoo.errors import TrainingError

_NONE = torch.iinfo(torch.int64).max


class LossWatch:
    """Remembers the first step whose loss is not finite, without waiting for a GPU; `check` reads and reports it.

    Args:
        method: what the method's own stage is called in the message.
        processes: how many train; with more than one, `check` is called on all of them.

    Examples:
        >>> import torch
        >>> from rela_zoo.errors import TrainingError
        >>> watch = LossWatch("byol")
        >>> watch.note(torch.tensor(0.7), step=0, accelerated=True)
        >>> watch.note(torch.tensor(float("nan")), step=1, accelerated=True)
        >>> try:
        ...     watch.check()
        ... except TrainingError as error:
        ...     print(error.what)
        the loss is not finite at step 2, in the accelerated stage
    """

    def __init__(self, method: str, processes: int = 1) -> None:
        self._method, self._processes = method, processes
        self._first: Tensor | None = None

    def note(self, loss: Tensor, *, step: int, accelerated: bool) -> None:
        """Look at a loss.

        Args:
            loss: of one batch of this process; any shape.
            step: optimiser steps made before it.
            accelerated: whether it is of the accelerated stage.
        """
        loss = loss.detach()
        if self._first is None:
            self._first = torch.full((), _NONE, dtype=torch.int64, device=loss.device)
        # Step and stage in one number; the smallest is kept.
        code = 2 * (step + 1) + int(not accelerated)
        self._first = torch.where(torch.isfinite(loss).all(), self._first, self._first.clamp(max=code))

    def check(self, *, everywhere: bool = True) -> None:
        """Wait for what was noted so far.

        Args:
            everywhere: ask the other processes too, which then have to call this as well.

        Raises:
            TrainingError: a loss was not finite; names step and stage.
        """
        first = _NONE if self._first is None else int(self._first)
        if everywhere and self._processes > 1:
            first = min(ranks.gather(first))
        if first == _NONE:
            return
        step, own = divmod(first, 2)
        stage = f"the stage of {self._method}" if own else "the accelerated stage"
        raise TrainingError(
            f"the loss is not finite at step {step}, in {stage}",
            expected="a finite loss in every step",
            got="NaN or infinity; what was trained since the last checkpoint is lost, and that checkpoint is kept",
            fix="lower optimizer.lr, or train in precision=32 or bf16-mixed; then run the command again",
        )
