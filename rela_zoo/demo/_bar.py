"""One progress bar a training: steps, rate, remaining time."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bar(Callback):
    """Shows the steps of a training on the terminal's error stream; draws nothing where there is no terminal."""

    def __init__(self) -> None:
        columns = BarColumn(), MofNCompleteColumn(), TextColumn("steps ·"), TimeRemainingColumn(), TextColumn("left")
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._task = self._progress.add_task("", total=trainer.estimated_stepping_batches)
        self._progress.start()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self._progress.update(self._task, completed=trainer.global_step)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._progress.stop()
