"""A training ends at the first loss that is not finite, and writes no checkpoint after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from rela_zoo.engine import LossWatch


def loss_of(outputs: Any) -> Tensor | None:
    """The loss in what Lightning hands to `on_train_batch_end`; None where a module gives none."""
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    return loss if isinstance(loss, Tensor) else None


class FiniteLosses(Callback):
    """For runs without an accelerator, which looks itself. Stands before the callbacks that save.

    Args:
        method: its name, for the message.
    """

    def __init__(self, method: str) -> None:
        self._method, self._step = method, 0
        self._watch = LossWatch(method)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        self._watch = LossWatch(self._method, trainer.world_size)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember the step."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the loss; look at what was noted every `log_every_n_steps` steps."""
        loss = loss_of(outputs)
        if loss is not None:
            self._watch.note(loss, step=self._step, accelerated=False)
        step, every = trainer.global_step, getattr(trainer, "log_every_n_steps", 0) or 50
        if trainer.is_last_batch or (step != self._step and step % every == 0):
            self._watch.check()
