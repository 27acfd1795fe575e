"""What has to be asked or told of Lightning's trainer, its private parts included, in one place.

Called in `setup("fit")`: before DDP wraps the module and before schedules are sized.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.core.hooks import DataHooks
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.utils.data import DataLoader

from rela_zoo.engine import Accelerator, RunShape
from rela_zoo.errors import ConfigError, Problem
from rela_zoo.hosts.protocols import HostTrainer


def train_loader(trainer: HostTrainer) -> DataLoader:
    """The DataLoader that the trainer will fit on.

    Raises:
        ConfigError: if the training data come in another way, whose order can't be controlled.
    """
    if trainer.overfit_batches:
        fix = "set overfit_batches=0; limit_train_batches shortens an epoch"
        got = f"{trainer.overfit_batches}: the same batches in every epoch, in order"
        raise ConfigError([Problem("overfit_batches", "0", got, fix)])
    loader = trainer.fit_loop._data_source.dataloader()
    if isinstance(loader, DataLoader):
        return loader
    got, fix = type(loader).__name__, "give one DataLoader (in solo-learn: data.format=image_folder)"
    raise ConfigError([Problem("data", "training data from one torch DataLoader", got, fix)])


def put_train_loader(trainer: HostTrainer, loader: DataLoader) -> None:
    """Fit on this loader instead."""
    source = trainer.fit_loop._data_source
    # Whoever gave it, a loader, a data module or the module itself: from here on it is this one.
    source.instance, source.name = loader, ""
    # Somebody may have asked for the length of the training already.
    trainer.fit_loop._combined_loader = None


def run_shape(trainer: HostTrainer, batch_size: int, seed: int, method: str, accumulate: int | None) -> RunShape:
    """The numbers of a run; `accumulate` is given where the module makes its optimiser steps by hand.

    Raises:
        ConfigError: a launcher has started more processes than the trainer knows of, each a whole run of its own.
    """
    launched = os.environ.get("WORLD_SIZE", "") if "TORCHELASTIC_RUN_ID" in os.environ else ""
    if launched.isdecimal() and int(launched) != trainer.world_size:
        expected = f"as many processes as the launcher has started, {launched}"
        fix = "set devices and num_nodes to what the launcher starts, or start without it"
        raise ConfigError([Problem("devices", expected, f"{trainer.world_size}", fix)])
    return RunShape(
        batch_size=batch_size,
        epochs=trainer.max_epochs,
        accumulate=trainer.accumulate_grad_batches if accumulate is None else accumulate,
        partial_steps=accumulate is None,
        limit_batches=trainer.limit_train_batches,
        seed=seed,
        method=method,
        read_every=trainer.log_every_n_steps or 50,
        rank=trainer.global_rank,
        world_size=trainer.world_size,
        max_steps=None if trainer.max_steps == -1 else trainer.max_steps,
        trial=bool(trainer.fast_dev_run),
    )


def batches_in_flight(loader: Any) -> int:
    """How many batches may have been drawn from the sampler but not trained on yet, at most."""
    # Lightning looks one batch ahead to know which is the last; one more for the batch being handed over.
    return loader.num_workers * (loader.prefetch_factor or 0) + 2


def batch_hook_owner(trainer: HostTrainer, module: Any, name: str) -> Any:
    """Whose hook of this name the trainer will call: its data module's, unless only the module has one."""
    data = trainer.datamodule
    if data is None or (is_overridden(name, module) and not is_overridden(name, data)):
        return module
    return data


def hook_on_batches(trainer: HostTrainer) -> str | None:
    """A hook of the user's own that sees batches before they are on the device; None if there is none."""
    for name in ("on_before_batch_transfer", "transfer_batch_to_device"):
        for owner in (trainer.datamodule, trainer.lightning_module):
            # Of its class: a callback may have put a hook on the object itself.
            if owner is not None and getattr(type(owner), name, None) is not getattr(DataHooks, name):
                return f"{type(owner).__name__}.{name}"
    return None


def allow_unused_parameters(trainer: HostTrainer) -> None:
    """Projectors have no gradient in the accelerated stage, a trained head none after it: let DDP know."""
    if hasattr(trainer.strategy, "_ddp_kwargs"):
        trainer.strategy._ddp_kwargs["find_unused_parameters"] = True


def patch_epoch_length(trainer: HostTrainer, accelerator: Accelerator) -> None:
    """Make a trainer ask for the length of each epoch, and size schedules by the sum of them.

    Changes this trainer alone. Its `max_epochs` is a number, and its sampler knows the next epoch when one has ended.
    """
    trainer.reload_dataloaders_every_n_epochs = 1
    assert trainer.max_epochs is not None
    total = accelerator.optimiser_steps(trainer.max_epochs)
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


def next_epoch(checkpoint: Mapping[str, Any]) -> int:
    """The epoch to be run next; `checkpoint["epoch"]` is one too low after a finished epoch."""
    return int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
