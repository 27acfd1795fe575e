"""One run under a Lightning trainer: tells the accelerator what the trainer does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rela_zoo._io.log import logger
from rela_zoo.data.views import find_normalisation
from rela_zoo.engine import Accelerator, RelaPlan, Student, ViewShape
from rela_zoo.errors import RelaZooError
from rela_zoo.hosts.lightning._device_views import Placement
from rela_zoo.hosts.lightning._finite import loss_of
from rela_zoo.hosts.lightning._rewarm import Rewarm
from rela_zoo.hosts.lightning._trainer import allow_unused_parameters, next_epoch, patch_epoch_length, run_shape
from rela_zoo.hosts.lightning.data import TrainingData
from rela_zoo.hosts.protocols import HostTrainer

log = logger(__name__)


@dataclass(frozen=True)
class ModuleFacts:
    """What has to be known of a module.

    Attributes:
        features_dim: width of its features.
        seed: of the run.
        method: its name, for messages.
        views: of the accelerated stage; None keeps the data's own in both stages.
        accumulate: batches in an optimiser step, where the module makes it by hand; None asks the trainer.
        network: images → features (B, features_dim), as it is before training, for `rela.prior=self`.
    """

    features_dim: int | None
    seed: int
    method: str
    views: ViewShape | None
    accumulate: int | None = None
    network: nn.Module | None = None


class LightningRun:
    """The accelerator of a run, driven by a trainer's hooks. Holds no parameters; the head belongs to the module.

    Made in `setup("fit")`: resolves artefacts, builds the head, puts the loader into place.

    Args:
        trainer: of the run.
        plan: the checked `rela` section.
        data: the training data.
        facts: of the module.

    Attributes:
        accelerator: does the work.

    Raises:
        RelaZooError: for everything about configuration, data and artefacts that would spoil the run.
    """

    def __init__(self, trainer: HostTrainer, plan: RelaPlan, data: TrainingData, facts: ModuleFacts) -> None:
        self._trainer = trainer
        self._indices: Tensor | None = None
        self._bar: dict[str, Tensor] = {}
        # Optimiser steps, and the trainer's count of them when they were counted last.
        self._steps = self._global_step = trainer.global_step
        self._in_epoch, self._read_at = False, 0
        self.accelerator = accelerator = Accelerator(
            data.source,
            features_dim=facts.features_dim,
            run=run_shape(trainer, data.batch_size, facts.seed, facts.method, facts.accumulate),
            rela=plan,
            device=trainer.strategy.root_device,
            student=_student(facts, data),
        )
        # Rows are read by index from files: in a compiled module that is done outside of the graph.
        self._loss = torch.compiler.disable(accelerator.loss)
        self._mixed = torch.compiler.disable(accelerator.mixed)
        self._rewarm = Rewarm(trainer, accelerator) if plan.config.rewarm else None
        if accelerator.head is not None:
            # Lightning 2.1 has done that to the module already.
            trainer.precision_plugin.convert_module(accelerator.head)
        data.install(accelerator, facts.views)
        if accelerator.sampler.subset.counts is not None:
            patch_epoch_length(trainer, accelerator)
        if plan.config.accelerates:
            allow_unused_parameters(trainer)
        self._placement = data.placement or Placement(None, 0)
        log.info(accelerator.banner(self._placement.told))

    def note_indices(self, indices: Any) -> None:
        """Remember which samples the next batch holds, while their indices are on the CPU: reading them back waits."""
        self._indices = indices if isinstance(indices, Tensor) else None

    def with_views(self, module: Any, batch: Any) -> Any:
        """In `on_after_batch_transfer`: the batch with its views, made here if it came without."""
        views = self._placement.views
        return batch if views is None else views(module, batch)

    def take_indices(self, indices: Any) -> None:
        """In `training_step`, the indices as they came: used where reading them waits for nothing."""
        if isinstance(indices, Tensor) and indices.device.type == "cpu":
            self._indices = indices

    @property
    def steps(self) -> int:
        """Optimiser steps made so far."""
        # Several optimisers that are stepped by hand after one batch each count in `global_step`; they are one step.
        if self._trainer.global_step != self._global_step:
            self._steps, self._global_step = self._steps + 1, self._trainer.global_step
        return self._steps

    def start_epoch(self) -> None:
        """In `on_train_epoch_start`."""
        self._in_epoch = True
        self.accelerator.start_epoch(self._trainer.current_epoch)

    def begin_batch(self, batch_idx: int) -> bool:
        """In `training_step`; whether this batch gets the accelerated loss."""
        accelerated = self.accelerator.begin_batch(batch_idx, step=self.steps)
        if self._rewarm is not None:
            self._rewarm.before_step(self.steps)
        return accelerated

    def weights(self) -> Tensor | None:
        """Weights of the batch's samples: (B,) float32 on the run's device, or None for no weights."""
        return None if self._indices is None else self.accelerator.weights(self._indices)

    def loss(self, features: Sequence[Tensor]) -> Tensor:
        """The accelerated loss of the batch (scalar), from the features of each view, (B, m) with gradient."""
        loss: Tensor = self._loss(features, self._known_indices())
        return loss

    def _known_indices(self) -> Tensor:
        if self._indices is None:
            raise RelaZooError(
                "it is not known which samples this batch holds",
                expected="a batch of the trainer's own loader, once in each training step",
                fix="take the batch as the argument of training_step, and ask for the loss once",
            )
        return self._indices

    def mixed(self, own: Tensor, features: Sequence[Tensor]) -> Tensor:
        """In the method's own stage: its loss (scalar) with a share of the accelerated one, by `rela.mix`."""
        loss: Tensor = self._mixed(own, features, self._known_indices())
        return loss

    def end_batch(self, batch_idx: int, outputs: Any = None) -> None:
        """In `on_train_batch_end`: fold the step into the averages, and decide where a decision is due.

        Args:
            batch_idx: of the batch.
            outputs: what the trainer gives that hook; a loss in it that is not finite ends the training.

        Raises:
            TrainingError: a loss was not finite.
        """
        loss = loss_of(outputs)
        if loss is not None:
            self.accelerator.note_loss(loss)
        # The next batch says itself which samples it holds.
        self._indices = None
        if self._trainer.is_last_batch:
            self._end_epoch()
        else:
            self.accelerator.end_batch(batch_idx, step=self.steps)
        self._bar = self._for_bar(loss)

    def _for_bar(self, loss: Tensor | None) -> dict[str, Tensor]:
        every = self._trainer.log_every_n_steps or 50
        if self._trainer.progress_bar_callback is None or self.steps == self._read_at or self.steps % every:
            return {}
        self._read_at = self.steps
        accelerated = self.accelerator.handover_step is None
        values = {"stage": torch.tensor(1.0 if accelerated else 2.0)}
        if loss is not None:
            values["loss"] = loss.detach().float().mean() * self._trainer.accumulate_grad_batches
        if accelerated and "rho" in self.accelerator.averages:
            values["rho"] = self.accelerator.averages["rho"].float()
        return {f"rela/{name}": value.cpu() for name, value in values.items()}

    def bar(self) -> dict[str, Tensor]:
        """For Lightning's progress bar, after `end_batch`: loss, ρ and stage (1 accelerated, 2 the method's own).

        On the CPU, for a bar reads its values at each of its own steps. They are taken from the device where it has
        been waited for anyway, every `log_every_n_steps`; empty in between, and where there is no bar.
        """
        return self._bar

    def _end_epoch(self) -> None:
        """Once an epoch, by whoever comes first: a callback that saves may run before the module's own hook."""
        if self._in_epoch:
            self.accelerator.end_epoch(self._trainer.current_epoch, step=self.steps)
        self._in_epoch = False

    def metrics(self) -> dict[str, Tensor]:
        """`rela_slow`, `rela_fast` and `rela_rho` of the adaptive rule, to be logged in the accelerated stage."""
        return {f"rela_{name}": value.float() for name, value in self.accelerator.averages.items()}

    def carry_on(self, before: LightningRun | None) -> None:
        """Go on from an earlier `fit` of the same trainer, whose epochs go on too; a checkpoint overrides it."""
        if before is not None and before._trainer is self._trainer and self._trainer.global_step:
            self.accelerator.load_state_dict(before.accelerator.state_dict(head=True), self._trainer.current_epoch)
            if self._rewarm is not None and before._rewarm is not None:
                self._rewarm.load_state_dict(before._rewarm.state_dict())

    def save(self, checkpoint: dict[str, Any], *, head: bool = False) -> None:
        """In `on_save_checkpoint`, whichever callback saves and whenever: add what decides stages and subsets.

        Args:
            checkpoint: to be added to.
            head: whether to put the head in, where it is not in the module's state dict.
        """
        # Of this process alone: not everybody who saves does so on all of them.
        self.accelerator.watch.check(everywhere=False)
        self.accelerator.fold(self.steps)
        if self._trainer.is_last_batch:
            self._end_epoch()
        state = {"steps": self.steps, "views_on": list(self._placement.where)}
        checkpoint["rela"] = {**self.accelerator.state_dict(head=head), **state}
        if self._rewarm is not None:
            checkpoint["rela"]["rewarm"] = self._rewarm.state_dict()

    def load(self, checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
        """In `on_load_checkpoint`, between `setup` and the first batch; returns what `save` put in.

        Raises:
            RelaZooError: if the checkpoint is of a run without `rela`, or over other data or embeddings.
        """
        state = checkpoint.get("rela")
        if state is None:
            raise RelaZooError(
                "this checkpoint is of a run without rela",
                expected="a checkpoint with the state of its stages",
                got="none",
                fix="start a new run, or remove `rela` from the configuration",
            )
        then, now = state.get("views_on", ["workers", "workers"]), list(self._placement.where)
        if then != now:
            log.warning(
                f"rela_zoo: so far the views of the two stages were made by {' and '.join(then)}, now by "
                f"{' and '.join(now)}: the run is not bit for bit what it would have been. rela.views_on says where"
            )
        # The epoch is set here because the first iterator is made before Lightning tells the sampler.
        self.accelerator.load_state_dict(state, next_epoch(checkpoint))
        if self._rewarm is not None and "rewarm" in state:
            self._rewarm.load_state_dict(state["rewarm"])
        self._global_step = int(checkpoint["global_step"])
        self._steps = int(state.get("steps") or self._global_step)
        return state


def _student(facts: ModuleFacts, data: TrainingData) -> Student | None:
    """The network as its own prior; None where it or the normalisation of its images is not known."""
    own = getattr(getattr(data, "owner", None), "transform", None)
    found = None if own is None else find_normalisation(own)
    if facts.network is None or facts.views is None or found is None:
        return None
    return Student(facts.network, facts.views.crop_size, *found)
