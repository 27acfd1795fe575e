"""`with_rela`: a subclass of a method class under solo-learn's contract, with the accelerated stage in front.

The contract: `cls(cfg)`, `backbone`, `features_dim`, `forward`, `training_step` over `[indices, views, targets]`,
`base_training_step` in the most basic class, `learnable_params`, `num_large_crops`, `momentum_forward` where there is
a momentum network. solo-learn's methods have it, and so have those of the built-in host. No method is copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import torch
from torch import Tensor, nn

from rela_zoo.engine import Accelerator, RelaPlan, ViewShape, plan_rela, scale_gradients
from rela_zoo.errors import ConfigError, Problem
from rela_zoo.hosts.host import Host
from rela_zoo.hosts.lightning import LightningRun, ModuleFacts
from rela_zoo.hosts.protocols import HostTrainer

Method = TypeVar("Method", bound=type)

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule

    class _Contract(LightningModule):
        """What the wrapper relies on, for the type checker."""

        cfg: Any
        features_dim: int | None
        backbone: nn.Module
        num_large_crops: int
        num_crops: int
        multicrop: bool
        rela_head: nn.Module
        _sample_weights: Tensor | None

        @property
        def learnable_params(self) -> list[dict[str, Any]]: ...
        def forward(self, X: Tensor) -> dict[str, Any]: ...
        def multicrop_forward(self, X: Tensor) -> dict[str, Any]: ...
        def momentum_forward(self, X: Tensor) -> dict[str, Any]: ...
        def _shared_step_momentum(self, X: Tensor, targets: Tensor) -> dict[str, Any]: ...
        def base_training_step(self, X: Tensor, targets: Tensor) -> dict[str, Any]: ...
        def training_step(self, batch: Any, batch_idx: int) -> Any: ...

else:
    _Contract = object


def _most_basic(method_class: type, attribute: str) -> Any:
    """The class furthest up the inheritance of `method_class` that itself defines `attribute`, or None."""
    return next((cls for cls in reversed(method_class.__mro__) if attribute in vars(cls)), None)


def with_rela(method_class: Method, host: Host | None = None) -> Method:
    """A subclass of a method class that trains by the `rela` section of its configuration.

    Without such a section it behaves exactly as `method_class`: same losses, same state-dict keys. With one, training
    starts with the accelerated stage (ReLA, arXiv 2405.14669): the prior's transported embeddings are the targets,
    the SSL loss is not computed, momentum networks and the online classifier go on being updated; then comes the
    handover, once, to the unmodified method. Both stages see a fresh subset of the data in each epoch.

    Args:
        method_class: a LightningModule class under solo-learn's contract, such as an entry of `solo.methods.METHODS`.
        host: what is peculiar to the program that trains it.

    Returns:
        The subclass; `method_class` itself if it is one already. Its instances have `rela`, the `Accelerator` of the
        run, or None without a section and before training.

    Raises:
        TypeError: if `method_class` lacks the contract's methods.

    Examples:
        >>> from rela_zoo import with_rela
        >>> from rela_zoo.hosts.builtin.methods import METHODS
        >>> wrapped = with_rela(METHODS["byol"])
        >>> wrapped.__name__, issubclass(wrapped, METHODS["byol"])
        ('BYOL', True)
    """
    if issubclass(method_class, RelaMixin):
        return cast(Method, method_class)
    basic = _most_basic(method_class, "base_training_step")
    if basic is None or not hasattr(method_class, "learnable_params"):
        raise TypeError(
            f"expected a method class with base_training_step and learnable_params, as solo-learn's have; "
            f"got {method_class.__name__}"
        )
    momentum = _most_basic(method_class, "momentum_forward")
    bases: tuple[type, ...] = (RelaMixin, method_class) if momentum is None else (_MomentumMixin, method_class)
    if hasattr(method_class, "multicrop_forward"):
        bases = (_MulticropMixin, *bases)
    names = {
        "__module__": method_class.__module__,
        "__qualname__": method_class.__qualname__,
        "__doc__": method_class.__doc__,
        "_rela_basic": basic,
        "_rela_momentum": momentum,
        "_rela_host": host or Host(),
        "_rela_wrapped": method_class,
    }
    return cast(Method, type(method_class.__name__, bases, names))


@dataclass
class _Noted:
    """Of each large crop of a batch: features as the backbone gave them, and the losses of the classifiers on them."""

    latest: Tensor | None = None
    features: list[Tensor] = field(default_factory=list)
    classifier: list[Tensor] = field(default_factory=list)
    momentum_classifier: list[Tensor] = field(default_factory=list)


def _mean(losses: list[Tensor]) -> Tensor:
    return torch.stack(losses).mean()


class RelaMixin(_Contract):
    """The hooks that `with_rela` puts in front of a method's own. What they do is the accelerator's business."""

    # Set by `with_rela`: the classes whose forward and momentum_forward run no heads, the host, the method's own class.
    _rela_basic: ClassVar[Any]
    _rela_momentum: ClassVar[Any]
    _rela_host: ClassVar[Host]
    _rela_wrapped: ClassVar[type]

    def __init__(self, cfg: Any, *args: Any, rela: RelaPlan | None = None, **kwargs: Any) -> None:
        section = cfg.get("rela", None)
        if rela is None and section is not None:
            rela = plan_rela(section, more=lambda: self._rela_host.check(cfg))
        super().__init__(cfg, *args, **kwargs)
        self._rela_host.begin()
        self._rela_plan = None if section is None else rela
        self._rela_run: LightningRun | None = None
        self._accelerating = False
        # Of the samples of the batch under way, or None for no weights.
        self._sample_weights: Tensor | None = None
        # Of the batch under way, where losses are mixed.
        self._noted: _Noted | None = None

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class is made at run time and can't be found by name; its parts can.
        made = super().__reduce_ex__(protocol)
        return (_remade, (self._rela_wrapped, self._rela_host), *made[2:])

    def __getstate__(self) -> dict[str, Any]:
        # The run belongs to the trainer of this process, which a copy leaves behind.
        return {**super().__getstate__(), "_rela_run": None}

    @property
    def rela(self) -> Accelerator | None:
        """The accelerator of the run; None without a `rela` section, and before training is set up."""
        run = self.__dict__.get("_rela_run")
        return None if run is None else run.accelerator

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if self._rela_plan is None or stage != "fit":
            return
        seed = int(self.cfg.get("seed", None) or 0)
        views = ViewShape(self._rela_host.crop_size(self), self.num_large_crops)
        name, dim = self.cfg.get("method", "the method"), getattr(self, "features_dim", None)
        facts = ModuleFacts(dim, seed, name, views, network=self.backbone)
        before, trainer = self._rela_run, cast(HostTrainer, self.trainer)
        self._rela_run = LightningRun(trainer, self._rela_plan, self._rela_host.data(self), facts)
        self._rela_run.carry_on(before)
        if self._rela_run.accelerator.head is not None:
            self.rela_head = self._rela_run.accelerator.head

    def on_train_start(self) -> None:
        super().on_train_start()
        self._rela_host.mend_started(self)
        if self._rela_run is not None and self.trainer.global_rank == 0:
            _record_artefacts(self._rela_run.accelerator, self._rela_host.run_folder(cast(HostTrainer, self.trainer)))

    def on_train_epoch_start(self) -> None:
        if self._rela_run is not None:
            self._rela_run.start_epoch()
            self._rela_host.seed_epoch(self)
        super().on_train_epoch_start()

    @property
    def learnable_params(self) -> list[dict[str, Any]]:
        params = super().learnable_params
        if self.rela is not None and self.rela.trains_head:
            params = [*params, {"name": "rela_head", "params": self.rela_head.parameters()}]
        return params

    @property
    def current_epoch(self) -> int:
        # Methods count epochs for what belongs to their own stage (freezing a layer, a temperature's warm-up, when
        # a queue starts), so they see 0 through the accelerated stage and count from the handover.
        epoch, run = super().current_epoch, self.__dict__.get("_rela_run")
        return epoch if run is None else run.accelerator.own_epoch(epoch)

    def forward(self, X: Tensor) -> dict[str, Any]:
        if self._accelerating:
            # Only backbone and online classifier run: no projector, no predictor. The features' loss has its
            # weights already.
            return scale_gradients(self._rela_basic.forward(self, X), self._sample_weights, only=("logits",))
        out = super().forward(X)
        if self._noted is not None:
            self._noted.latest = out["feats"]
        return scale_gradients(out, self._sample_weights)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        # Rows are looked up by indices that are still on the CPU: reading them back would stall the GPU.
        if self._rela_run is not None and self.trainer.training:
            self._rela_run.note_indices(batch[0])
        return super().on_before_batch_transfer(batch, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        return batch if self._rela_run is None else self._rela_run.with_views(self, batch)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self._rela_run is None:
            return super().training_step(batch, batch_idx)
        if batch_idx == 0:
            # Again, for a fresh run has drawn a seed for its workers since, and a resumed one has not.
            self._rela_host.seed_epoch(self)
        self._rela_run.take_indices(batch[0])
        accelerated = self._begin_batch(batch_idx)
        self._sample_weights = self._rela_run.weights()
        try:
            if accelerated:
                return self._accelerated_step(batch, batch_idx)
            if self._rela_run.accelerator.config.mixes:
                return self._mixed_step(batch, batch_idx)
            return super().training_step(batch, batch_idx)
        finally:
            self._sample_weights = self._noted = None

    def _begin_batch(self, batch_idx: int) -> bool:
        assert self._rela_run is not None
        return self._rela_run.begin_batch(batch_idx)

    def base_training_step(self, X: Tensor, targets: Tensor) -> dict[str, Any]:
        out: dict[str, Any] = super().base_training_step(X, targets)
        if self._noted is not None:
            assert self._noted.latest is not None
            self._noted.features.append(self._noted.latest)
            self._noted.classifier.append(out["loss"])
        return out

    def _mixed_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The method's own step, with a share of the accelerated loss on the same features."""
        assert self._rela_run is not None
        self._noted = noted = _Noted()
        own = super().training_step(batch, batch_idx)
        whole = own["loss"] if isinstance(own, dict) else own
        # The losses of the classifiers are part of every method's, and keep their weight.
        classifier = sum(_mean(losses) for losses in (noted.classifier, noted.momentum_classifier) if losses)
        return self._rela_run.mixed(whole - classifier, noted.features) + classifier

    def _accelerated_step(self, batch: Any, batch_idx: int) -> Tensor:
        indices, views, targets = batch
        views = [views] if isinstance(views, Tensor) else views[: self.num_large_crops]
        with self._large_crops_only():
            base = self._rela_basic if getattr(self, "momentum_classifier", None) is None else self._rela_momentum
            out = base.training_step(self, [indices, views, targets], batch_idx)
        assert self._rela_run is not None
        loss = self._rela_run.loss(out["feats"])
        self.log("train_rela_loss", loss, on_epoch=True, sync_dist=True)
        return out["loss"] + loss

    @contextmanager
    def _large_crops_only(self) -> Iterator[None]:
        before = self.num_crops, self.multicrop
        self.num_crops, self.multicrop, self._accelerating = self.num_large_crops, False, True
        try:
            yield
        finally:
            (self.num_crops, self.multicrop), self._accelerating = before, False

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int, *args: Any) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx, *args)
        if self._rela_run is not None:
            accelerated = not self._rela_run.accelerator.sampler.in_own_stage(batch_idx)
            # The accelerated loss has been noted by itself.
            self._rela_run.end_batch(batch_idx, outputs if self._rela_host.has_loss(self) else None)
            if accelerated:
                self._after_accelerated()
                self.log_dict(self._rela_run.metrics())
            if values := self._rela_run.bar():
                self.log_dict(values, prog_bar=True, logger=False)

    def _after_accelerated(self) -> None:
        """What is to be done after a batch of the accelerated stage, when all updates have been made."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        self._rela_host.mend_saved(self, checkpoint)
        if self._rela_run is not None:
            self._rela_run.save(checkpoint)
            checkpoint["rela"].update(self._rela_host.save(self))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._rela_host.mend_loaded(self, checkpoint)
        if self._rela_run is not None:
            self._rela_host.load(self, self._rela_run.load(checkpoint))


class _MomentumMixin(RelaMixin):
    def _begin_batch(self, batch_idx: int) -> bool:
        accelerated = super()._begin_batch(batch_idx)
        if self.rela is not None:
            self._rela_host.rewarm_momentum(self, self.rela)
        return accelerated

    def momentum_schedule(self, step: int, total: int) -> tuple[int, int]:
        return (step, total) if self.rela is None else self.rela.own_schedule(step, total)

    @torch.no_grad()
    def momentum_forward(self, X: Tensor) -> dict[str, Any]:
        if self._accelerating:
            return cast(dict[str, Any], self._rela_momentum.momentum_forward(self, X))
        return cast(dict[str, Any], super().momentum_forward(X))

    def _shared_step_momentum(self, X: Tensor, targets: Tensor) -> dict[str, Any]:
        out: dict[str, Any] = super()._shared_step_momentum(X, targets)
        if self._noted is not None and "loss" in out:
            self._noted.momentum_classifier.append(out["loss"])
        return out

    @torch.no_grad()
    def _after_accelerated(self) -> None:
        # Without a classifier of its own the teacher sees no batch in this stage: its parameters follow the student's,
        # but its batch statistics would stay where they were initialised. It takes the student's, as torch's own
        # averaged models do. The losses of the method's own stage do not depend on them.
        if getattr(self, "momentum_classifier", None) is None:
            for online, teacher in getattr(self, "momentum_pairs", ()):
                _copy_buffers(online, teacher)


class _MulticropMixin(_Contract):
    def multicrop_forward(self, X: Tensor) -> dict[str, Any]:
        return scale_gradients(super().multicrop_forward(X), self._sample_weights)


def _copy_buffers(source: nn.Module, target: nn.Module) -> None:
    """Give a network the buffers of its twin: running means, variances and counts of batch norms."""
    theirs = dict(source.named_buffers())
    pairs = [(mine, theirs[name]) for name, mine in target.named_buffers() if name in theirs]
    pairs = [(mine, other) for mine, other in pairs if mine.shape == other.shape and mine.dtype == other.dtype]
    if pairs:
        torch._foreach_copy_([mine for mine, _ in pairs], [other for _, other in pairs])


def _remade(method_class: type, host: Host) -> Any:
    """An empty instance of a wrapped class, for unpickling."""
    cls: Any = with_rela(method_class, host)
    return cls.__new__(cls)


def _record_artefacts(accelerator: Accelerator, folder: Path | None) -> None:
    """Write `rela.lock` into the run's folder; with --locked or --lock, compare with a lock file first.

    Raises:
        HubError: locked, and the run would use other artefacts, or has no folder.
    """
    from rela_zoo.hub import given_lock, is_locked, write_lock

    named = given_lock()
    if not accelerator.targets and named is None:
        return
    if folder is not None or named is not None:
        write_lock(folder, accelerator.artefacts)
    elif is_locked():
        fix = "set checkpoint.enabled=true"
        raise ConfigError([Problem("checkpoint.enabled", "a run with a folder to lock", "no folder", fix)])
