"""Learning-rate schedules that begin anew at the handover, whichever they are.

A schedule of Lightning's is stepped from its start over the whole training. At the handover it is put back to its
start, and from there on stepped so much faster that it ends with the training.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from rela_zoo.engine import Accelerator
from rela_zoo.hosts.protocols import HostTrainer


def replayed(made: int, whole: int, total: int) -> int:
    """How many steps of a schedule of `total` steps are due, when `made` of the `whole` steps that remain are made."""
    return made * total // max(1, whole)


class Rewarm:
    """The schedules of a run.

    Args:
        trainer: of the run.
        accelerator: knows when the handover was.
    """

    def __init__(self, trainer: HostTrainer, accelerator: Accelerator) -> None:
        self._trainer, self._accelerator = trainer, accelerator
        # Of each schedule, its state and its groups' rates, before the first step.
        self._start: list[dict[str, Any]] | None = None
        # For each schedule, the steps of it made since the handover; None before.
        self._made: list[int] | None = None

    def before_step(self) -> None:
        """In `training_step`, when the stage of the batch is known."""
        if self._start is None:
            self._start = [
                {
                    "state": copy.deepcopy(one.state_dict()),
                    "rates": [group["lr"] for group in one.optimizer.param_groups],
                }
                for one in self._schedules
            ]
        if self._accelerator.handover_step in (None, 0):
            return
        if self._made is None:
            for one, start in zip(self._schedules, self._start, strict=True):
                one.load_state_dict(copy.deepcopy(start["state"]))
                for group, rate in zip(one.optimizer.param_groups, start["rates"], strict=True):
                    group["lr"] = rate
            self._made, self._since = [0] * len(self._start), self._counts()
            return
        self._catch_up()

    def _catch_up(self) -> None:
        """Step each schedule as often as is due, beyond what the trainer has stepped it."""
        assert self._made is not None
        total = int(self._trainer.estimated_stepping_batches)
        made, whole = self._accelerator.own_schedule(self._trainer.global_step, total, always=True)
        for number, (config, now) in enumerate(zip(self._trainer.lr_scheduler_configs, self._counts(), strict=True)):
            self._made[number] += now - self._since[number]
            self._since[number] = now
            length = total if config.interval == "step" else int(self._trainer.max_epochs or 1)
            while self._made[number] < replayed(made, whole, length):
                config.scheduler.step()
                self._made[number] += 1

    def _counts(self) -> list[int]:
        """How often the trainer has stepped each schedule: its own count of optimiser steps, or of epochs."""
        epoch, step = self._trainer.current_epoch, self._trainer.global_step
        return [step if one.interval == "step" else epoch for one in self._trainer.lr_scheduler_configs]

    @property
    def _schedules(self) -> list[Any]:
        return [config.scheduler for config in self._trainer.lr_scheduler_configs]

    def state_dict(self) -> dict[str, Any]:
        """The schedules' start, and what was made of them since the handover."""
        return {
            "start": self._start,
            "made": self._made,
            "since": self._counts() if self._made is None else self._since,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._start, self._made, self._since = state["start"], state["made"], list(state["since"])
