"""The callback for any LightningModule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast
from weakref import WeakKeyDictionary

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from rela_zoo.engine import Accelerator, ViewShape, plan_rela
from rela_zoo.errors import ConfigError, Problem
from rela_zoo.hosts.lightning._attach import Attachments, HeadParameters, is_trained, train_as_well
from rela_zoo.hosts.lightning._indexed import without_indices
from rela_zoo.hosts.lightning._trainer import batch_hook_owner
from rela_zoo.hosts.lightning.data import LoaderData
from rela_zoo.hosts.lightning.run import LightningRun, ModuleFacts
from rela_zoo.hosts.protocols import HostTrainer

# Which callback trains a module. Not an attribute of the module: copies of it (of weight averaging) would copy the run.
_TRAINING: WeakKeyDictionary[LightningModule, RelaCallback] = WeakKeyDictionary()

_WEIGHTED = Problem(
    "rela.selection",
    "samples without weights: the module's own loss would not heed them",
    "a policy that weights them",
    "set weighted: false in rela.selection, or rela.handover=1.0",
)


def accelerating(module: LightningModule) -> LightningRun | None:
    """The run of a module while it is in its accelerated stage; None after the handover, and without a callback.

    For the one line in `training_step`, first thing:

        if rela := accelerating(self):
            return rela.loss([self.backbone(view) for view in views])
    """
    callback = _TRAINING.get(module)
    return callback.run if callback is not None and callback.accelerated else None


def mixing(module: LightningModule) -> LightningRun | None:
    """The run of a module in its own stage, where `rela.mix` gives the accelerated loss a share; else None.

    For one line at the end of `training_step`:

        if rela := mixing(self):
            loss = rela.mixed(loss, features)
    """
    callback = _TRAINING.get(module)
    if callback is None or callback.accelerated or not callback.plan.config.mixes:
        return None
    return callback.run


class RelaCallback(Callback):
    """Trains any LightningModule by a `rela` section: accelerated stage first, subsets throughout.

    Its data set applies its `transform` attribute; batches keep their form. While it trains, the module has the head's
    parameters as `rela_head`, which is not in its state dict; where its optimiser does not take all of
    `self.parameters()`, a trained head is added as a group. A module with several optimisers is trained as it is: the
    first of them gets the head.

    Args:
        rela: keys of the `rela` section.
        features_dim: width of the module's features.
        views: size and number of the views in the accelerated stage; None keeps the data's own.
        source: the training images in the data set's order, where the data set itself can't be read: whatever
            `image_source` takes.
        accumulate: batches in an optimiser step, for a module that accumulates gradients in manual optimisation.
        seed: of subsets, views and head.
        network: gives a module's network from images to features, for `rela.prior=self`; needs `views`.

    Attributes:
        run: the run under way or just ended; None before.
        accelerated: whether the batch under way gets the accelerated loss.

    Examples:
        >>> from rela_zoo.hosts.lightning import RelaCallback
        >>> callback = RelaCallback({"prior": "cifar10-resnet20", "handover": 0.5}, features_dim=512)
        >>> callback.plan.config.handover
        0.5
    """

    def __init__(
        self,
        rela: Mapping[str, Any],
        *,
        features_dim: int | None,
        views: ViewShape | None = None,
        source: Any = None,
        accumulate: int | None = None,
        seed: int = 0,
        network: Callable[[Any], nn.Module] | None = None,
    ) -> None:
        self.plan = plan_rela(rela)
        if self.plan.config.selection.weighted and self.plan.config.handover != 1.0:
            raise ConfigError([_WEIGHTED])
        self._features_dim, self._views, self._source = features_dim, views, source
        self._accumulate, self._seed, self._network = accumulate, seed, network
        self._attached = Attachments()
        self.run: LightningRun | None = None
        self.accelerated = False

    @property
    def accelerator(self) -> Accelerator:
        """The accelerator, once training has been set up."""
        assert self.run is not None
        return self.run.accelerator

    def data(self, trainer: Trainer, module: LightningModule) -> LoaderData:
        """The training data of a module."""
        return LoaderData(cast(HostTrainer, trainer), indexed=False, source=self._source)

    def facts(self, trainer: Trainer, module: LightningModule, data: Any) -> ModuleFacts:
        """What has to be known of a module, given what `data` gave."""
        name, network = type(module).__name__, None if self._network is None else self._network(module)
        return ModuleFacts(self._features_dim, self._seed, name, self._views, self._accumulate, network)

    def begin(self, trainer: Trainer, module: LightningModule) -> None:
        """Resolve artefacts, build the head, put the loader into place."""
        data = self.data(trainer, module)
        if "transform" in vars(data.owner):
            self._attached.put(data.owner, "transform", data.owner.transform)  # changed from item to item
        before = self.run if _TRAINING.get(module) is self else None
        self.run = LightningRun(cast(HostTrainer, trainer), self.plan, data, self.facts(trainer, module, data))
        self.run.carry_on(before)
        _TRAINING[module] = self
        if self.accelerator.head is not None:
            self._attached.put(module, "rela_head", HeadParameters(self.accelerator.head))
        owner = batch_hook_owner(cast(HostTrainer, trainer), module, "on_before_batch_transfer")
        hook = without_indices(owner.on_before_batch_transfer, self.run.note_indices)
        self._attached.put(owner, "on_before_batch_transfer", hook)
        owner = batch_hook_owner(cast(HostTrainer, trainer), module, "on_after_batch_transfer")
        self._attached.put(owner, "on_after_batch_transfer", self._before(owner.on_after_batch_transfer, module))

    def _before(self, own: Callable[[Any, int], Any], module: LightningModule) -> Callable[[Any, int], Any]:
        """A hook `on_after_batch_transfer`, behind one that makes the views of batches that come without."""

        def on_after_batch_transfer(batch: Any, dataloader_idx: int) -> Any:
            return own(batch if self.run is None else self.run.with_views(module, batch), dataloader_idx)

        return on_after_batch_transfer

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin, once the module itself has been set up: that may be where its data set is made."""
        if stage != "fit":
            return
        self._attached.release()  # of a run that ended with an error
        own = pl_module.setup

        def then_begin(stage: str) -> None:
            own(stage)
            self.begin(trainer, pl_module)

        self._attached.put(pl_module, "setup", then_begin)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave module and data as they were."""
        if stage == "fit":
            self.accelerated = False
            self._attached.release()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put a trained head into an optimiser, before its state is restored."""
        head = self.accelerator.head
        if head is not None and self.accelerator.trains_head and not is_trained(head, trainer.optimizers):
            schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
            train_as_well(self.head_optimizer(trainer, pl_module), schedulers, head, "rela_head")

    def head_optimizer(self, trainer: Trainer, module: LightningModule) -> Any:
        """The optimiser of a trained head that is in none."""
        return trainer.optimizers[0]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the accelerator."""
        assert self.run is not None
        self.run.start_epoch()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Ask for the stage."""
        assert self.run is not None
        self.accelerated = self.run.begin_batch(batch_idx)
        if not self.accelerated and self.run.weights() is not None:  # of a recording
            raise ConfigError([_WEIGHTED])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Fold the step into the averages."""
        assert self.run is not None
        if self.accelerated:
            pl_module.log_dict(self.run.metrics())
        self.run.end_batch(batch_idx, outputs)
        if values := self.run.bar():
            pl_module.log_dict(values, prog_bar=True, logger=False)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the state in."""
        if self.run is not None:
            self.run.save(checkpoint, head=True)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on from it."""
        if self.run is not None and trainer.training:
            self.run.load(checkpoint)
