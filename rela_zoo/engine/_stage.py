"""Which stage a batch belongs to, and when the accelerated stage ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from rela_zoo.engine._loader import batches_in_flight, optimiser_steps, to_device
from rela_zoo.engine.config import RelaConfig
from rela_zoo.engine.objective import AdaptiveHandover, ConstantHandover, Handover
from rela_zoo.errors import ConfigError, Problem, RelaZooError
from rela_zoo.selection.subset import SubsetSampler


def _handover_rule(config: RelaConfig, trainer: Any, sampler: SubsetSampler) -> Handover:
    """The rule of the configuration, sized for this run."""
    if config.handover == "adaptive":
        return AdaptiveHandover()
    fraction, epochs = float(config.handover), trainer.max_epochs
    if fraction == 1.0:
        return ConstantHandover(None)
    if epochs is None or epochs < 0:
        fix = "set max_epochs, or rela.handover=adaptive"
        raise ConfigError([Problem("max_epochs", "a number, for rela.handover is a fraction of it", f"{epochs}", fix)])
    if config.handover_at == "epoch":
        return ConstantHandover(optimiser_steps(trainer, sampler, int(fraction * epochs)))
    return ConstantHandover(int(fraction * optimiser_steps(trainer, sampler, epochs)))


def _sum_over_ranks(trainer: Any) -> Callable[[Tensor], Tensor]:
    """A tensor of each rank → a new one, their sum."""
    # Lightning reduces in place.
    return lambda tensor: trainer.strategy.reduce(tensor.clone(), reduce_op="sum")


class StageControl:
    """Collects the loss of each optimiser step, asks the handover rule, and tells the sampler.

    The loss of a step is the mean over accumulated micro-batches and ranks. It is folded into the averages when the
    trainer has counted the step: at the next batch, at the end of this one, or when a checkpoint is taken, whichever
    comes first, so that a checkpoint taken by any callback holds the same state.

    Args:
        config: of the run.
        sampler: to be told from which batch on the method's own stage runs.
        trainer: of the run; only asked for its lengths here.
        loader: the one that draws from `sampler`.

    Raises:
        ConfigError: if the handover is a fraction of a number of epochs that isn't set.
    """

    def __init__(self, config: RelaConfig, sampler: SubsetSampler, trainer: Any, loader: DataLoader) -> None:
        self._config, self._sampler, self._in_flight = config, sampler, batches_in_flight(loader)
        self._handover = _handover_rule(config, trainer, sampler)
        self._pending: list[Tensor] = []
        self._counted_steps = 0
        at_once = not config.accelerates or self._handover.handed_over
        self._own_from_batch: int | None = 0 if at_once else None
        self.handover_step: int | None = 0 if at_once else None
        self.handover_epoch: int | None = 0 if at_once else None
        sampler.own_stage_from(self._own_from_batch)

    def in_own_stage(self, batch: int) -> bool:
        """Whether this batch of the epoch gets the method's own views and loss."""
        return self._sampler.in_own_stage(batch)

    def record(self, loss: Tensor) -> None:
        """Note the accelerated loss (scalar, detached) of one micro-batch of this rank."""
        self._pending.append(loss)

    def observe(self, indices: Tensor, losses: Tensor) -> None:
        """Note the accelerated losses (B,) of samples with these indices (B,), if the selection looks at them."""
        running = self._sampler.subset.losses
        if running is not None:
            running.observe(to_device(indices, losses.device), losses)

    def fold(self, trainer: Any) -> None:
        """Take the noted losses into the averages if the trainer has made an optimiser step since."""
        if not self._pending or trainer.global_step <= self._counted_steps:
            return
        mean = torch.stack(self._pending).float().mean()
        if trainer.world_size > 1:
            mean = trainer.strategy.reduce(mean, reduce_op="mean")
        self._handover.update(mean)
        self._pending = []
        self._counted_steps = trainer.global_step

    def before_batch(self, trainer: Any, batch: int) -> bool:
        """Called with each batch of the epoch; whether it is the first of the method's own stage."""
        self.fold(trainer)
        if self.handover_step is None and self.in_own_stage(batch):
            self.handover_step, self.handover_epoch = trainer.global_step, trainer.current_epoch
            return True
        return False

    def after_batch(self, trainer: Any, batch: int) -> None:
        """Decide, where a decision is due: at the end of an epoch, or in it, when reading the rule is cheap enough."""
        self.fold(trainer)
        if trainer.is_last_batch:
            self._end_epoch(trainer)
        elif (
            self._config.handover_at == "step"
            and self._own_from_batch is None
            and (self._handover.known_to_host or trainer.global_step % (trainer.log_every_n_steps or 50) == 0)
            and self._handover.handed_over
        ):
            self._begin_own(batch + 1 + self._in_flight)

    def _end_epoch(self, trainer: Any) -> None:
        """Decide, and let the next epoch's draw know this one's losses. A second call changes nothing."""
        if self._own_from_batch is not None or self._handover.handed_over:
            self._begin_own(0)
        running = self._sampler.subset.losses
        if running is not None:
            running.end_epoch(_sum_over_ranks(trainer))
        if self._sampler.subset.counts is not None:
            # The next epoch is of another length, for which Lightning asks before it tells the sampler the epoch.
            self._sampler.set_epoch(trainer.current_epoch + 1)

    def _begin_own(self, batch: int) -> None:
        self._own_from_batch = batch
        self._sampler.own_stage_from(batch)

    @property
    def averages(self) -> dict[str, Tensor]:
        """State of the handover rule on its device, to be logged."""
        rule = self._handover
        return {"slow": rule.slow, "fast": rule.fast, "rho": rule.rho} if isinstance(rule, AdaptiveHandover) else {}

    def state_dict(self, trainer: Any) -> dict[str, Any]:
        """Everything that decides the stage from here on; folds first."""
        self.fold(trainer)
        if trainer.is_last_batch:
            self._end_epoch(trainer)
        running = self._sampler.subset.losses
        return {
            "handover": self._handover.state_dict(),
            "own_from_batch": self._own_from_batch,
            "handover_step": self.handover_step,
            "handover_epoch": self.handover_epoch,
            "counted_steps": self._counted_steps,
            "pending": [loss.cpu() for loss in self._pending],
            "sampler": self._sampler.state_dict(),
            "losses": None if running is None else running.state_dict(_sum_over_ranks(trainer)),
        }

    def load_state_dict(self, state: dict[str, Any], epoch: int) -> None:
        """Go on from what `state_dict` gave, with this epoch (0, 1, …).

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
        self._sampler.set_epoch(epoch)
        self._handover.load_state_dict(state["handover"])
        self.handover_step, self.handover_epoch = state["handover_step"], state["handover_epoch"]
        self._counted_steps = state["counted_steps"]
        self._pending = list(state["pending"])
        self._own_from_batch = state["own_from_batch"]
        self._sampler.own_stage_from(self._own_from_batch)
        running = self._sampler.subset.losses
        if running is not None:
            running.load_state_dict(state["losses"], self._sampler.rank)
