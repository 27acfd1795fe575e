"""The callback for any LightningModule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from rela_zoo.engine import Accelerator, ViewShape, plan_rela
from rela_zoo.hosts.lightning.data import LoaderData, WithIndices
from rela_zoo.hosts.lightning.run import LightningRun, ModuleFacts


def accelerating(module: LightningModule) -> LightningRun | None:
    """The run of a module while it is in its accelerated stage; None after the handover, and without a callback.

    For the one line in `training_step`, first thing:

        if rela := accelerating(self):
            return rela.loss([self.backbone(view) for view in views])
    """
    callback = getattr(module, "_rela_callback", None)
    return callback.run if callback is not None and callback.accelerated else None


class RelaCallback(Callback):
    """Trains any LightningModule by a `rela` section: accelerated stage first, subsets throughout.

    The module's data set applies its `transform` attribute; batches keep their form. The module gets the head as
    `rela_head`; where its optimiser does not take all of `self.parameters()`, a trained head is added as a group.

    Args:
        rela: keys of the `rela` section.
        features_dim: width of the module's features.
        views: size and number of the views in the accelerated stage; None keeps the data's own views.
        seed: of subsets, views and head.

    Example:
        >>> from rela_zoo.hosts.lightning import RelaCallback
        >>> callback = RelaCallback({"prior": "cifar10-resnet20", "handover": 0.5}, features_dim=512)
        >>> callback.plan.config.handover
        0.5
    """

    def __init__(
        self, rela: Mapping[str, Any], *, features_dim: int, views: ViewShape | None = None, seed: int = 0
    ) -> None:
        self.plan = plan_rela(rela)
        self._features_dim, self._views, self._seed = features_dim, views, seed
        self.run: LightningRun | None = None
        self.accelerated = False

    @property
    def accelerator(self) -> Accelerator:
        """The accelerator, once training has been set up."""
        assert self.run is not None
        return self.run.accelerator

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Resolve artefacts, build the head, put the loader into place."""
        if stage != "fit":
            return
        facts = ModuleFacts(self._features_dim, self._seed, type(pl_module).__name__, self._views)
        self.run = LightningRun(trainer, self.plan, LoaderData(trainer, indexed=False), facts)
        module: Any = pl_module
        module._rela_callback = self
        if self.accelerator.head is not None:
            module.rela_head = self.accelerator.head
        module.on_before_batch_transfer = _unpacked(self.run, module.on_before_batch_transfer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put a trained head into the optimiser, before its state is restored."""
        wanted = {id(one): one for one in self.accelerator.parameters()}
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    wanted.pop(id(parameter), None)
        if wanted:
            trainer.optimizers[0].add_param_group({"params": list(wanted.values())})
            for config in trainer.lr_scheduler_configs:
                _let_follow(config.scheduler)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the accelerator."""
        assert self.run is not None
        self.run.start_epoch()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Ask for the stage."""
        assert self.run is not None
        self.accelerated = self.run.begin_batch(batch_idx)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Fold the step into the averages."""
        assert self.run is not None
        if self.accelerated:
            pl_module.log_dict(self.run.metrics())
        self.run.end_batch(batch_idx)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the state in."""
        if self.run is not None:
            self.run.save(checkpoint)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on from it."""
        if self.run is not None:
            self.run.load(checkpoint)


def _unpacked(run: LightningRun, own: Callable[[Any, int], Any]) -> Callable[[Any, int], Any]:
    """The module's own hook, behind one that takes the indices off a training batch."""

    def on_before_batch_transfer(batch: Any, dataloader_idx: int) -> Any:
        if isinstance(batch, tuple) and isinstance(batch, WithIndices):
            run.note_indices(batch.indices)
            batch = batch.batch
        return own(batch, dataloader_idx)

    return on_before_batch_transfer


def _let_follow(scheduler: Any) -> None:
    """A group that came later has the rate of the first, and its schedule."""
    if hasattr(scheduler, "base_lrs"):
        scheduler.base_lrs.append(scheduler.base_lrs[0])
    if hasattr(scheduler, "lr_lambdas"):
        scheduler.lr_lambdas.append(scheduler.lr_lambdas[0])
