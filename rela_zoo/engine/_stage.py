"""Which stage a batch belongs to, and when the accelerated stage ends."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from rela_zoo._io import ranks
from rela_zoo._io.log import logger
from rela_zoo.engine._rules import handover_rule, predicted, refuse_open_end
from rela_zoo.engine._shape import RunShape
from rela_zoo.engine.config import RelaConfig
from rela_zoo.engine.handover import AdaptiveHandover
from rela_zoo.engine.sampler import SubsetSampler
from rela_zoo.engine.surpass import Judge, SurpassHandover
from rela_zoo.errors import RelaZooError

log = logger(__name__)


class Step(NamedTuple):
    """One batch of a plain loop.

    Attributes:
        accelerated: whether it gets the accelerated loss; else the method's own.
        batch: what the loader gave.
    """

    accelerated: bool
    batch: Any


class StageControl:
    """Collects the loss of each optimiser step, asks the handover rule, and tells the sampler.

    The loss of a step is the mean over accumulated micro-batches and ranks. It is folded into the averages when the
    host has counted the step: at the next batch, at the end of this one, or when a checkpoint is taken, whichever
    comes first, so that a checkpoint taken at any moment holds the same state.

    Args:
        config: of the run.
        sampler: to be told from which batch on the method's own stage runs.
        run: its lengths.
        judge: of the student, for `rela.handover=surpass` alone.

    Attributes:
        total: optimiser steps of the whole training; None for an open end.
        in_flight: batches that may have been drawn from the sampler but not trained on yet, at most.
        epoch: under way, 0, 1, …; after `end_epoch` the one to come.
        handover_step: optimiser steps made when the method's own stage began; None while it has not.
        handover_epoch: epoch in which it began.

    Raises:
        ConfigError: something of the configuration ends with the training, and nobody knows when that is.
    """

    def __init__(self, config: RelaConfig, sampler: SubsetSampler, run: RunShape, judge: Judge | None = None) -> None:
        self._config, self._sampler, self._run = config, sampler, run
        self.in_flight = 1
        self.total = run.total_steps(sampler)
        if self.total is None:
            refuse_open_end(config, run)
        self.rule = handover_rule(config, run, sampler, self.total, judge)
        self._pending: list[Tensor] = []
        self._counted_steps = 0
        self.epoch = 0
        at_once = not config.accelerates or self.rule.handed_over
        self._own_from_batch: int | None = 0 if at_once else None
        self.handover_step: int | None = 0 if at_once else None
        self.handover_epoch: int | None = 0 if at_once else None
        sampler.own_stage_from(self._own_from_batch)

    def start_epoch(self, epoch: int) -> None:
        """Let the sampler draw for this epoch."""
        self.epoch = epoch
        self._sampler.set_epoch(epoch)

    def in_own_stage(self, batch: int) -> bool:
        """Whether this batch of the epoch gets the method's own views and loss."""
        return self._sampler.in_own_stage(batch)

    def record(self, loss: Tensor) -> None:
        """Note the accelerated loss (scalar, detached) of one micro-batch of this rank."""
        self._pending.append(loss)

    def observe(self, indices: Tensor, losses: Tensor) -> None:
        """Note the accelerated losses (B,) of samples with these indices (B,), both on one device."""
        running = self._sampler.subset.losses
        if running is not None:
            running.observe(indices, losses)

    def fold(self, step: int) -> None:
        """Take the noted losses into the averages if the host has made an optimiser step since: `step` in all."""
        if not self._pending or step <= self._counted_steps:
            return
        mean = torch.stack(self._pending).float().mean()
        if self._run.processes > 1:
            mean = ranks.mean_over_ranks(mean)
        self.rule.update(mean)
        self._pending = []
        self._counted_steps = step

    def before_batch(self, batch: int, step: int) -> bool:
        """Called with each batch of the epoch; whether it is the first of the method's own stage."""
        self.fold(step)
        if self.handover_step is None and self.in_own_stage(batch):
            self.handover_step, self.handover_epoch = step, self.epoch
            return True
        return False

    def after_batch(self, batch: int, step: int) -> None:
        """Decide inside an epoch, where that is asked for and reading the rule is cheap enough."""
        self.fold(step)
        if (
            self._config.handover_at == "step"
            and self._own_from_batch is None
            and (self.rule.known_to_host or step % self._run.read_every == 0)
            and self.rule.handed_over
        ):
            self._begin_own(batch + 1 + self.in_flight)

    def end_epoch(self, epoch: int) -> None:
        """Decide, and let the next epoch's draw know this one's losses. A second call changes nothing."""
        if isinstance(self.rule, SurpassHandover) and self._own_from_batch is None and epoch == self.epoch:
            self.rule.look()
        if self._own_from_batch is not None or self.rule.handed_over:
            self._begin_own(0)
        running = self._sampler.subset.losses
        if running is not None:
            running.end_epoch(ranks.sum_over_ranks)
        self.epoch = epoch + 1
        if self._sampler.subset.counts is not None:
            # The next epoch is of another length, which a host may ask for before it tells the sampler the epoch.
            self._sampler.set_epoch(epoch + 1)

    def _begin_own(self, batch: int) -> None:
        self._own_from_batch = batch
        self._sampler.own_stage_from(batch)

    def remaining(self, step: int, total: int) -> tuple[int, int]:
        """Of a training of `total` steps, as (step, length): what is made, and is to be made, since the handover."""
        if self.handover_step is None:
            return step, total
        return max(0, step - self.handover_step), max(1, total - self.handover_step)

    def by_stage(self, steps: int) -> tuple[int, int]:
        """Of so many optimiser steps made in all: those of the accelerated stage, and those of the method's own."""
        accelerated = steps if self.handover_step is None else min(self.handover_step, steps)
        return accelerated, steps - accelerated

    def own_epoch(self, epoch: int) -> int:
        """How many epochs of the method's own stage lie behind the start of `epoch` (0, 1, …) of the training."""
        return 0 if self.handover_epoch is None else max(0, epoch - self.handover_epoch)

    def share(self, step: int) -> float:
        """λ, the share of the accelerated loss in the method's own stage, by `rela.mix`."""
        if not self._config.mixes:
            return 0.0
        if self._config.mix != "linear":
            return float(self._config.mix)
        assert self.total is not None  # else it has been refused
        made, whole = self.remaining(step, self.total)
        return max(0.0, 1.0 - made / whole)

    def predicted(self) -> str:
        """When the rule will fire, for the user, as far as that is known; empty where the rule says it."""
        return predicted(self.rule, self.total)

    @property
    def averages(self) -> dict[str, Tensor]:
        """State of the handover rule on its device, to be logged."""
        rule = self.rule
        return {"slow": rule.slow, "fast": rule.fast, "rho": rule.rho} if isinstance(rule, AdaptiveHandover) else {}

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides the stage from here on."""
        running = self._sampler.subset.losses
        return {
            "handover": self.rule.state_dict(),
            "own_from_batch": self._own_from_batch,
            "handover_step": self.handover_step,
            "handover_epoch": self.handover_epoch,
            "counted_steps": self._counted_steps,
            "pending": [loss.cpu() for loss in self._pending],
            "sampler": self._sampler.state_dict(),
            "losses": None if running is None else running.state_dict(ranks.sum_over_ranks),
            "epoch": self.epoch,
        }

    def load_state_dict(self, state: dict[str, Any], epoch: int | None = None) -> None:
        """Go on from what `state_dict` gave, with this epoch (0, 1, …); None for the one that the state names.

        Raises:
            RelaZooError: if the subsets would be others than those of the run so far.
        """
        # Checkpoints written before there were policies don't name one.
        now, then = self._sampler.state_dict(), {"selection": {"name": "uniform"}, **state["sampler"]}
        kept = ("n", "ratio", "seed", "selection")
        if any(now[key] != then[key] for key in kept):
            raise RelaZooError(
                "this checkpoint drew other subsets",
                expected=", ".join(f"{key} {then[key]}" for key in kept),
                got=", ".join(f"{key} {now[key]}" for key in kept),
                fix="resume with the data, rela.data_ratio, selection and seed of that run, or start a new one",
            )
        if state["handover"].keys() != self.rule.state_dict().keys():
            raise RelaZooError(
                "this checkpoint was trained by another rule of rela.handover",
                expected=f"the state of {type(self.rule).__name__}: {', '.join(self.rule.state_dict())}",
                got=", ".join(state["handover"]),
                fix="resume with rela.handover as it was, or start a new run",
            )
        self.start_epoch(state["epoch"] if epoch is None else epoch)
        self.rule.load_state_dict(state["handover"])
        self.handover_step, self.handover_epoch = state["handover_step"], state["handover_epoch"]
        self._counted_steps = state["counted_steps"]
        self._pending = list(state["pending"])
        self._own_from_batch = state["own_from_batch"]
        self._sampler.own_stage_from(self._own_from_batch)
        running = self._sampler.subset.losses
        if running is not None:
            running.load_state_dict(state["losses"], self._sampler.rank)
