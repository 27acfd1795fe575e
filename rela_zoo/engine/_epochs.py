"""Epochs of different lengths under Lightning, which takes it that all are as long as the first."""

from __future__ import annotations

from typing import Any

from rela_zoo.engine._loader import optimiser_steps
from rela_zoo.selection.subset import SubsetSampler


def patch_epoch_length(trainer: Any, sampler: SubsetSampler) -> None:
    """Make a trainer ask for the length of each epoch, and size schedules by the sum of them.

    Called before the optimisers are set up. Changes this trainer alone.

    Args:
        trainer: of the run; its `max_epochs` is a number.
        sampler: whose epochs differ; it knows the next epoch when the last one has ended.
    """
    trainer.reload_dataloaders_every_n_epochs = 1
    total = optimiser_steps(trainer, sampler, trainer.max_epochs)
    if trainer.max_steps != -1:
        total = min(total, trainer.max_steps)

    class _Trainer(type(trainer)):  # type: ignore[misc]
        # Lightning's own is the length of the epoch under way times their number: wrong, and another in each epoch.
        # Schedules and momenta of the methods are sized by it. It is a property, so only a class can change it.
        @property
        def estimated_stepping_batches(self) -> int:
            return total

    _Trainer.__name__, _Trainer.__qualname__ = type(trainer).__name__, type(trainer).__qualname__
    trainer.__class__ = _Trainer
