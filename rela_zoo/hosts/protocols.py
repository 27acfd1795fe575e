"""What the adapters ask of a trainer and of a module under solo-learn's contract; Lightning's own classes fit."""

from __future__ import annotations

from typing import Any, Protocol

import torch


class Strategy(Protocol):
    """How a trainer uses its devices."""

    @property
    def root_device(self) -> torch.device:
        """Of this process."""
        ...


class HostTrainer(Protocol):
    """A Lightning trainer, from `setup("fit")` on. What is private of it is asked for in one file alone."""

    reload_dataloaders_every_n_epochs: int

    @property
    def max_epochs(self) -> int | None:
        """−1 or None for no end."""
        ...

    @property
    def max_steps(self) -> int:
        """−1 for no end."""
        ...

    @property
    def current_epoch(self) -> int:
        """Under way, 0, 1, …"""
        ...

    @property
    def global_step(self) -> int:
        """Optimiser steps made."""
        ...

    @property
    def is_last_batch(self) -> bool:
        """Whether the batch under way is the last of its epoch."""
        ...

    @property
    def global_rank(self) -> int:
        """Of this process."""
        ...

    @property
    def world_size(self) -> int:
        """Processes."""
        ...

    @property
    def estimated_stepping_batches(self) -> int | float:
        """Optimiser steps of the whole training."""
        ...

    @property
    def lr_scheduler_configs(self) -> Any:
        """The schedules, each with `scheduler`, `interval`, `frequency` and `reduce_on_plateau`."""
        ...

    @property
    def lightning_module(self) -> Any:
        """What is trained."""
        ...

    accumulate_grad_batches: int
    limit_train_batches: Any
    overfit_batches: Any
    fast_dev_run: Any
    log_every_n_steps: Any
    callbacks: Any
    progress_bar_callback: Any
    datamodule: Any
    fit_loop: Any

    @property
    def strategy(self) -> Any:
        """A `Strategy`; under DDP with private settings."""
        ...

    @property
    def precision_plugin(self) -> Any:
        """Converts modules to the precision of the run."""
        ...


class HostModule(Protocol):
    """A method under solo-learn's contract, as a host's hooks see it."""

    cfg: Any
    num_large_crops: int

    @property
    def trainer(self) -> Any:
        """A `HostTrainer`."""
        ...

    @property
    def current_epoch(self) -> int:
        """As the method counts: from the handover."""
        ...

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        ...

    def state_dict(self) -> Any:
        """Tensors by name."""
        ...

    def register_buffer(self, name: str, tensor: Any) -> None:
        """Make a buffer."""
        ...


class HasMomentum(Protocol):
    """A method with a momentum network that moves after the student by a factor that rises."""

    momentum_updater: Any
