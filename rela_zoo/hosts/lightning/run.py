"""One run under a Lightning trainer: tells the accelerator what the trainer does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rela_zoo._io.log import logger
from rela_zoo.engine import Accelerator, RelaPlan, ViewShape
from rela_zoo.errors import RelaZooError
from rela_zoo.hosts.lightning._trainer import allow_unused_parameters, next_epoch, patch_epoch_length, run_shape
from rela_zoo.hosts.lightning.data import TrainingData

log = logger(__name__)


@dataclass(frozen=True)
class ModuleFacts:
    """What has to be known of a module.

    Attributes:
        features_dim: width of its features.
        seed: of the run.
        method: its name, for messages.
        views: of the accelerated stage; None keeps the data's own in both stages.
    """

    features_dim: int | None
    seed: int
    method: str
    views: ViewShape | None


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

    def __init__(self, trainer: Any, plan: RelaPlan, data: TrainingData, facts: ModuleFacts) -> None:
        self._trainer = trainer
        self._indices: Tensor | None = None
        self.accelerator = accelerator = Accelerator(
            data.source,
            features_dim=facts.features_dim,
            run=run_shape(trainer, data.batch_size, facts.seed, facts.method),
            rela=plan,
            device=trainer.strategy.root_device,
        )
        data.install(accelerator, facts.views)
        if accelerator.sampler.subset.counts is not None:
            patch_epoch_length(trainer, accelerator)
        if plan.config.accelerates:
            allow_unused_parameters(trainer)
        log.info(accelerator.banner())

    def note_indices(self, indices: Any) -> None:
        """Remember which samples the next batch holds, while their indices are on the CPU: reading them back waits."""
        self._indices = indices if isinstance(indices, Tensor) else None

    def take_indices(self, indices: Any) -> None:
        """In `training_step`, the indices as they came: used where reading them waits for nothing."""
        if isinstance(indices, Tensor) and indices.device.type == "cpu":
            self._indices = indices

    def start_epoch(self) -> None:
        """In `on_train_epoch_start`."""
        self.accelerator.start_epoch(self._trainer.current_epoch)

    def begin_batch(self, batch_idx: int) -> bool:
        """In `training_step`; whether this batch gets the accelerated loss."""
        return self.accelerator.begin_batch(batch_idx, step=self._trainer.global_step)

    def weights(self) -> Tensor | None:
        """Weights of the batch's samples: (B,) float32 on the run's device, or None for no weights."""
        return None if self._indices is None else self.accelerator.weights(self._indices)

    def loss(self, features: Sequence[Tensor]) -> Tensor:
        """The accelerated loss of the batch (scalar), from the features of each view, (B, m) with gradient."""
        assert self._indices is not None
        return self.accelerator.loss(features, self._indices)

    def end_batch(self, batch_idx: int) -> None:
        """In `on_train_batch_end`: fold the step into the averages, and decide where a decision is due."""
        trainer, accelerator = self._trainer, self.accelerator
        if trainer.is_last_batch:
            accelerator.end_epoch(trainer.current_epoch, step=trainer.global_step)
        else:
            accelerator.end_batch(batch_idx, step=trainer.global_step)

    def metrics(self) -> dict[str, Tensor]:
        """`rela_slow`, `rela_fast` and `rela_rho` of the adaptive rule, to be logged in the accelerated stage."""
        return {f"rela_{name}": value.float() for name, value in self.accelerator.averages.items()}

    def save(self, checkpoint: dict[str, Any]) -> None:
        """In `on_save_checkpoint`, whichever callback saves and whenever: add what decides stages and subsets."""
        trainer, accelerator = self._trainer, self.accelerator
        accelerator.fold(trainer.global_step)
        if trainer.is_last_batch:
            accelerator.end_epoch(trainer.current_epoch, step=trainer.global_step)
        # The head is in the module's state dict.
        checkpoint["rela"] = accelerator.state_dict(head=False)

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
        # The epoch is set here because the first iterator is made before Lightning tells the sampler.
        self.accelerator.load_state_dict(state, next_epoch(checkpoint))
        return state
