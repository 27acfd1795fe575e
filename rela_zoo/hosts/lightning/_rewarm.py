"""Learning-rate schedules that begin anew at the handover, whichever they are.

A schedule of torch's is stepped from its start over the whole training. At the handover it is put back to its start,
and from there on stepped so much faster that it ends with the training. One that heeds a metric has no length, and is
left alone.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rela_zoo.engine import Accelerator
from rela_zoo.errors import ConfigError, Problem
from rela_zoo.hosts.protocols import HostTrainer

# What schedules set in the groups of an optimiser.
_SET = ("lr", "momentum", "betas")


def replayed(made: int, whole: int, total: int) -> int:
    """How many steps of a schedule of `total` steps are due, when `made` of the `whole` steps that remain are made."""
    return made * total // max(1, whole)


class Rewarm:
    """The schedules of a run.

    Args:
        trainer: of the run.
        accelerator: knows when the handover was, and when training ends.
    """

    def __init__(self, trainer: HostTrainer, accelerator: Accelerator) -> None:
        self._trainer, self._accelerator = trainer, accelerator
        # Of each schedule, its state and what it sets, before the first step.
        self._start: list[dict[str, Any]] | None = None
        # Of each schedule, its own steps over the whole training; None before the handover.
        self._lengths: list[int] | None = None

    def before_step(self, step: int) -> None:
        """In `training_step`, when the stage of the batch is known.

        Args:
            step: optimiser steps made.

        Raises:
            ConfigError: a schedule does not tell where it stands.
        """
        if self._start is None:
            self._start = [_state(config.scheduler) for config in self._configs]
        if self._accelerator.handover_step in (None, 0):
            return
        if self._lengths is None:
            self._lengths = [self._length(number, step) for number in range(len(self._start))]
            for config, start in zip(self._configs, self._start, strict=True):
                _put_back(config.scheduler, start)
            return
        for number, config in enumerate(self._configs):
            due = self._due(config, step, self._lengths[number])
            while self._made(number) < due:
                config.scheduler.step()

    @property
    def _configs(self) -> list[Any]:
        return [config for config in self._trainer.lr_scheduler_configs if not config.reduce_on_plateau]

    def _made(self, number: int) -> int:
        """Steps of a schedule since its start, whoever made them."""
        assert self._start is not None
        return _position(self._configs[number].scheduler) - int(self._start[number]["position"])

    def _length(self, number: int, step: int) -> int:
        config, total = self._configs[number], self._total
        if not self._trainer.lightning_module.automatic_optimization:
            # The module steps it when it likes: as often from here on as before.
            return round(self._made(number) * total / max(1, step))
        return (total if config.interval == "step" else self._epochs) // int(config.frequency)

    def _due(self, config: Any, step: int, length: int) -> int:
        """Steps of a schedule that are due by now."""
        if self._trainer.lightning_module.automatic_optimization and config.interval == "epoch":
            epoch = self._trainer.current_epoch
            made = self._accelerator.own_epoch(epoch)
            return replayed(made, self._epochs - (epoch - made), length)
        return replayed(*self._accelerator.own_schedule(step, self._total), length)

    @property
    def _total(self) -> int:
        total = self._accelerator.total_steps
        assert total is not None
        return total

    @property
    def _epochs(self) -> int:
        """Epochs of the whole training; of one that ends by steps, those that are begun."""
        ahead = self._trainer.max_epochs
        per_epoch = max(1, self._accelerator.optimiser_steps(1))
        ends = -(-self._total // per_epoch)
        return ends if ahead in (None, -1) else min(int(ahead), ends)

    def state_dict(self) -> dict[str, Any]:
        """The schedules' start and lengths."""
        return {"start": self._start, "lengths": self._lengths}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._start, self._lengths = state["start"], state["lengths"]


def _state(scheduler: Any) -> dict[str, Any]:
    """Where a schedule stands, and what it has set in its optimiser."""
    return {
        "state": copy.deepcopy(scheduler.state_dict()),
        "position": _position(scheduler),
        "groups": [{key: copy.deepcopy(group[key]) for key in _SET if key in group} for group in _groups(scheduler)],
    }


def _put_back(scheduler: Any, start: Mapping[str, Any]) -> None:
    scheduler.load_state_dict(copy.deepcopy(start["state"]))
    for group, values in zip(_groups(scheduler), start["groups"], strict=True):
        for key, value in values.items():
            if isinstance(group[key], Tensor):
                group[key].copy_(value)
            else:
                group[key] = value


def _groups(scheduler: Any) -> list[dict[str, Any]]:
    """Of the optimiser whose rates a schedule sets."""
    optimizer = getattr(scheduler, "optimizer", None)
    groups: list[dict[str, Any]] = (_inner(scheduler)[0] if optimizer is None else scheduler).optimizer.param_groups
    return groups


def _inner(scheduler: Any) -> list[Any]:
    """The schedules that one is chained of."""
    return list(getattr(scheduler, "_schedulers", ()))


def _position(scheduler: Any) -> int:
    """Steps that a schedule of torch's says to have made."""
    if hasattr(scheduler, "last_epoch"):
        return int(scheduler.last_epoch)
    inner = _inner(scheduler)
    if not inner:
        expected = "a schedule of torch's, which counts its steps in last_epoch"
        fix = "derive it from torch.optim.lr_scheduler.LRScheduler, or set rela.rewarm=false"
        raise ConfigError([Problem("rela.rewarm", expected, type(scheduler).__name__, fix)])
    return max(map(_position, inner))
