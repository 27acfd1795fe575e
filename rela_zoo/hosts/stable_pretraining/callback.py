"""`RelaCallback` for stable-pretraining: what runs in each stage of a module whose forward is replaced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from rela_zoo.engine import Accelerator, ViewShape
from rela_zoo.errors import ConfigError, Problem
from rela_zoo.hosts.lightning import LightningRun, ModuleFacts, RelaCallback
from rela_zoo.hosts.stable_pretraining._data import DictionaryData
from rela_zoo.hosts.stable_pretraining._features import Features
from rela_zoo.hosts.stable_pretraining._views import large_views


class SptCallback(RelaCallback):
    """`RelaCallback` for batches that are dictionaries, and a forward that is replaced.

    Args:
        rela: keys of the `rela` section.
        forward: the module's own, a function.
        features: of images.
        keys: of images in views, and of the embedding in what `forward` returns.
        features_dim: width of the features; None looks at two samples.
        source: as of `RelaCallback`.
        seed: as of `RelaCallback`.
    """

    def __init__(
        self, rela: Mapping[str, Any], *, forward: Any, features: Features, keys: tuple[str, str], **more: Any
    ) -> None:
        super().__init__(rela, **more)
        self._own, self._features, (self._image, self._embedding) = forward, features, keys
        self._in_own = False

    def data(self, trainer: Trainer, module: LightningModule) -> DictionaryData:
        """The training data of a module."""
        return DictionaryData(trainer, self._image, self._source)

    def facts(self, trainer: Trainer, module: Any, data: DictionaryData) -> ModuleFacts:
        """What has to be known of a module, given what `data` gave."""
        dim = self._features_dim
        if dim is None and self.plan.config.has_targets:
            if data.gpu_transform is not None:
                fix = "say it: accelerate(…, features_dim=…)"
                raise ConfigError(
                    [Problem("features_dim", "the width of the features", "views made on the device", fix)]
                )
            (first, *_) = large_views(data.two, self._image).values()
            dim = self._features.measure(module, first[self._image])
        views = ViewShape(data.layout.size, len(data.layout.names))
        return ModuleFacts(dim, self._seed, self._own.__name__, views, _batches_in_a_step(trainer, module))

    def begin(self, trainer: Trainer, module: Any) -> None:
        """As of `RelaCallback`; and let the own forward count epochs from the handover."""
        super().begin(trainer, module)
        accelerator: Accelerator = self.accelerator
        kind: Any = type(module)

        def current_epoch(one: Any) -> int:
            # Temperatures warm up by it. What callbacks do every so many epochs goes on.
            epoch: int = kind.current_epoch.fget(one)
            return accelerator.own_epoch(epoch) if self._in_own else epoch

        names = {"current_epoch": property(current_epoch), "__module__": kind.__module__}
        module.__class__ = type(kind.__name__, (kind,), names)
        self._attached.later(lambda: setattr(module, "__class__", kind))

    def head_optimizer(self, trainer: Trainer, module: LightningModule) -> Any:
        """The optimiser of the backbone."""
        wanted = {id(one) for one in self._features.parameters(module)}
        for optimizer in trainer.optimizers:
            if any(id(one) in wanted for group in optimizer.param_groups for one in group["params"]):
                return optimizer
        return super().head_optimizer(trainer, module)

    def forward(self, module: Any, batch: Any, stage: str) -> Any:
        """The module's forward: the accelerated one where it is its turn."""
        if stage == "fit" and self.accelerated and self.run is not None:
            return self._accelerated(self.run, module, batch, stage)
        self._in_own = stage == "fit"
        try:
            if self._in_own and self.run is not None and self.plan.config.mixes:
                return self._mixed(self.run, module, batch, stage)
            return self._own(module, batch, stage)
        finally:
            self._in_own = False

    def _mixed(self, run: LightningRun, module: Any, batch: Any, stage: str) -> Any:
        """The module's own forward, its loss with a share of the accelerated one."""
        images = [view[self._image] for view in large_views(batch, self._image).values()]
        with self._features.noted(module) as features:
            out = self._own(module, batch, stage)
            out["loss"] = run.mixed(out["loss"], features(images))
        return out

    def _accelerated(self, run: LightningRun, module: Any, batch: Any, stage: str) -> dict[str, Any]:
        views = list(large_views(batch, self._image).values())
        images = [view[self._image] for view in views]
        features = [self._features(module, one) for one in images]
        out: dict[str, Any] = {
            key: torch.cat([view[key] for view in views])
            for key, value in views[0].items()
            if key != self._image and isinstance(value, Tensor) and value.ndim and len(value) == len(images[0])
        }
        out[self._embedding] = torch.cat(self._features.embeddings(module, images, features))
        out["loss"] = run.loss(features)
        how = {"on_step": True, "on_epoch": True, "sync_dist": True, "batch_size": len(images[0])}
        module.log(f"{stage}/rela_loss", out["loss"], **how)
        return out


def _batches_in_a_step(trainer: Any, module: Any) -> int:
    """Batches in a step of the optimiser that the module counts steps by, as `Module.on_train_start` reads it."""
    # `Manager` moves the trainer's number there, which Lightning refuses beside manual optimisation.
    number = getattr(trainer, "accumulate_grad_batches_", trainer.accumulate_grad_batches)
    settings = getattr(module, "optim", None)
    if isinstance(settings, Mapping) and settings.get("optimizer") is None:
        first: Mapping[str, Any] = next(iter(settings.values()), {})
        return int(first.get("frequency", 1))
    return int(settings.get("frequency", number)) if isinstance(settings, dict) else int(number)
