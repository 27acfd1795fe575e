"""The one call that puts the accelerated stage in front of a module's own forward."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from rela_zoo.engine import Accelerator, ViewShape
from rela_zoo.errors import ConfigError, Problem, RelaZooError
from rela_zoo.hosts.lightning import LightningRun, ModuleFacts, RelaCallback
from rela_zoo.hosts.stable_pretraining._data import DictionaryData
from rela_zoo.hosts.stable_pretraining._features import Features
from rela_zoo.hosts.stable_pretraining._views import large_views


def accelerate(
    module: Any,
    rela: Mapping[str, Any],
    *,
    features: str | Callable[[Any, Tensor], Tensor] = "backbone",
    features_dim: int | None = None,
    image: str = "image",
    embedding: str = "embedding",
    source: Any = None,
    seed: int = 0,
) -> Any:
    """Train a `stable_pretraining.Module` by a `rela` section: accelerated stage first, subsets throughout.

    In the accelerated stage only the backbone runs, on the (milder) large views, with the accelerated loss. The module
    returns what probes, queues and k-NN read: the embedding (the teacher's, where the backbone is a
    `TeacherStudentWrapper` and there are any of them), the labels and the other entries of the views. Teachers go on
    being updated. After the handover, and in validation throughout, the module's own forward runs, unmodified; it
    counts epochs from the handover.

    Call it before callbacks are made of the module (`OnlineProbe(module, …)`), which wrap its forward in theirs. Its
    `RelaCallback` comes into the trainer by itself; checkpoints hold its state.

    Args:
        module: with any forward of `(self, batch, stage)`.
        rela: keys of the `rela` section, documented in `rela_zoo/conf/rela/default.yaml`.
        features: name of the backbone (dotted for one further in), or how features are made: of the module and images
            (B, C, H, W), to (B, m) with gradient.
        features_dim: their width m; None looks at two samples.
        image: key of the images in samples and views.
        embedding: under which key the module's own forward returns its embedding.
        source: the training images in the data set's order, where the data set itself can't be read: whatever
            `image_source` takes.
        seed: of subsets, views and head.

    Returns:
        The module.

    Raises:
        ConfigError: mistakes in `rela`.
        RelaZooError: callbacks have wrapped the module already.

    Example:
        module = spt.Module(forward=spt.forward.simclr, backbone=backbone, projector=projector, …)
        accelerate(module, rela={"prior": "clip-vit-b16", "data_ratio": 0.2})
    """
    if "configure_model" in vars(module) or isinstance(getattr(module.forward, "accelerated_by", None), RelaCallback):
        raise RelaZooError(
            "accelerate comes too late: the forward of this module is wrapped already",
            expected="a module as it was made",
            got="one that callbacks (OnlineProbe, …) have wrapped, or that is accelerated",
            fix="call accelerate right after spt.Module(…), and make the callbacks of what it returns",
        )
    callback = SptCallback(
        rela,
        forward=module.forward.__func__,
        features=Features(features),
        keys=(image, embedding),
        features_dim=features_dim,
        source=source,
        seed=seed,
    )

    def forward(self: Any, batch: Any, stage: str) -> Any:
        return callback.forward(self, batch, stage)

    own_callbacks = module.configure_callbacks

    def configure_callbacks(self: Any) -> list[Any]:
        own = own_callbacks() or []
        return [*(own if isinstance(own, list | tuple) else [own]), callback]

    forward.accelerated_by = callback  # type: ignore[attr-defined]
    module.forward = types.MethodType(forward, module)
    module.configure_callbacks = types.MethodType(configure_callbacks, module)
    return module


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
        if dim is None and self.plan.config.accelerates:
            if data.gpu_transform is not None:
                fix = "say it: accelerate(…, features_dim=…)"
                raise ConfigError(
                    [Problem("features_dim", "the width of the features", "views made on the device", fix)]
                )
            (first, *_) = large_views(data.example, self._image).values()
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
            return self._own(module, batch, stage)
        finally:
            self._in_own = False

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
