"""What a training says while it runs: a line that is written over on a terminal, else a line now and then."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from rela_zoo._io.log import logger
from rela_zoo._io.status_line import StatusLine, place
from rela_zoo.hosts.lightning import loss_of

log = logger(__name__)

# Seconds between two looks at the device, each of which waits for it.
_REFRESH = 1.0
_LINE_EVERY = 30.0


def clock(seconds: float) -> str:
    """A span of time as `0:07`, `12:34` or `1:02:03`.

    Examples:
        >>> clock(3723)
        '1:02:03'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class TrainingProgress(Callback):
    """Shows loss, ρ, stage, rate and the time left of the whole training.

    The loss is the mean since the last look, added up on the device; the device is waited for once a second on a
    terminal, and elsewhere when a line is due: every 30 s, and after each epoch. The first process alone speaks.

    Args:
        line_every: seconds between the lines where nothing can be written over.
    """

    def __init__(self, line_every: float = _LINE_EVERY) -> None:
        self._line_every = line_every
        self._where = place()
        self._line = StatusLine(self._where)
        self._loss: Tensor | None = None
        # What was shown last.
        self._mean: float | None = None
        self._losses = self._samples = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clocks."""
        self._silent = not trainer.is_global_zero
        self._shown = self._stage_since = time.monotonic()
        self._stage, self._stage_from = self._stage_of(pl_module), trainer.global_step
        self._rate: float | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the batch up, and show where things stand if it is time."""
        if self._silent:
            return
        loss = loss_of(outputs)
        if loss is not None:
            loss = loss.detach() * trainer.accumulate_grad_batches
            self._loss = loss if self._loss is None else self._loss + loss
            self._losses += 1
        self._samples += len(batch[0]) * trainer.world_size
        every = self._line_every if self._where == "none" else _REFRESH
        if time.monotonic() - self._shown >= every:
            self._show(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the epoch, with what was measured on held-out images."""
        if not self._silent:
            measured = {key: value for key, value in trainer.callback_metrics.items() if key.startswith("val_")}
            self._show(trainer, pl_module, [f"{key} {float(value):.4g}" for key, value in sorted(measured.items())])

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Make room for the message."""
        self._line.close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the last line."""
        self._line.close()

    @staticmethod
    def _stage_of(module: Any) -> str:
        accelerator = getattr(module, "rela", None)
        if accelerator is not None and accelerator.handover_step is None:
            return "accelerated"
        return str(getattr(getattr(module, "cfg", None), "method", type(module).__name__))

    def _show(self, trainer: Trainer, module: Any, more: list[str] | None = None) -> None:
        now, step, total = time.monotonic(), trainer.global_step, trainer.estimated_stepping_batches
        if (stage := self._stage_of(module)) != self._stage:
            # The stages differ in speed.
            self._stage, self._stage_since, self._stage_from, self._rate, self._mean = stage, now, step, None, None
        words = [f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", stage]
        if self._loss is not None:
            self._mean = float(self._loss) / self._losses
        if self._mean is not None:
            words.append(f"loss {self._mean:.4g}")
        rho = module.rela.averages.get("rho") if stage == "accelerated" else None
        if rho is not None:
            words.append(f"ρ {float(rho):.3f}")
        if now > self._shown and self._samples:
            fresh = self._samples / (now - self._shown)
            self._rate = fresh if self._rate is None else 0.7 * self._rate + 0.3 * fresh
        if self._rate is not None:
            words.append(f"{self._rate:,.0f} images/s" if self._rate >= 10 else f"{self._rate:.1f} images/s")
        if step > self._stage_from:
            # Of all that happens meanwhile: validation and checkpoints too.
            left = (total - step) * (now - self._stage_since) / (step - self._stage_from)
            words.append(f"{clock(left)} left")
        news = self._samples or more
        self._loss, self._losses, self._samples, self._shown = None, 0, 0, now
        done = min(1.0, step / total)
        self._line.show(done, " · ".join(words))
        if self._where == "none" and news:
            log.info(" · ".join([f"{done:4.0%}", *words, *(more or ())]))
