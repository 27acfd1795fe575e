"""`with_rela`: a subclass of any method class, with the accelerated stage in front of the method's own.

The class built here only holds hooks; what they do is in the modules beside it. It relies on solo-learn's contract
alone: `cls(cfg)`, `backbone`, `features_dim`, `forward`, `training_step` over `[indices, views, targets]`,
`base_training_step` in the most basic class, `learnable_params`, `num_large_crops`, `momentum_forward` where there
is a momentum network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from rela_zoo.engine._preflight import preflight
from rela_zoo.engine._run import OtherData, RelaRun
from rela_zoo.engine.config import RelaConfig, parse_rela
from rela_zoo.errors import ConfigError, Problem
from rela_zoo.selection.weights import scale_gradients

Method = TypeVar("Method", bound=type)
ConfigCheck = Callable[[Any], list[Problem]]


def _most_basic(method_class: type, attribute: str) -> Any:
    """The class furthest up the inheritance of `method_class` that itself defines `attribute`, or None."""
    return next((cls for cls in reversed(method_class.__mro__) if attribute in vars(cls)), None)


def _section(cfg: Any, check: ConfigCheck | None) -> RelaConfig | None:
    """The checked `rela` section of a method's configuration, or None without one.

    Raises:
        ConfigError: with every problem found.
    """
    from omegaconf import OmegaConf

    section = cfg.get("rela", None)
    if section is None:
        return None
    problems = [] if check is None else check(cfg)
    try:
        config = parse_rela(OmegaConf.to_container(section, resolve=True) if OmegaConf.is_config(section) else section)
    except ConfigError as error:
        raise ConfigError([*error.problems, *problems]) from None
    problems += preflight(config)
    if problems:
        raise ConfigError(problems)
    return config


def with_rela(method_class: Method, check: ConfigCheck | None = None, other_data: OtherData | None = None) -> Method:
    """A subclass of a method class that trains by the `rela` section of its configuration.

    Without such a section it behaves exactly as `method_class`: same losses, same state-dict keys. With one, training
    starts with the accelerated stage (ReLA, arXiv 2405.14669): the prior's transported embeddings are the targets,
    the SSL loss is not computed, momentum networks and the online classifier go on being updated; then comes the
    handover, once, to the unmodified method. Both stages see a fresh subset of the data in each epoch.

    Args:
        method_class: a LightningModule class under solo-learn's contract, such as an entry of `solo.methods.METHODS`.
        check: what the host knows to be wrong with a whole configuration; called only if it has a `rela` section.
        other_data: how the host gives training data that come otherwise than by a DataLoader: called with the module
            in `setup`, it returns None, or an object with `source` (an ImageSource in the order of the indices) and
            `rebuild(config, subset)`, which puts a loader in place and returns its SubsetSampler and the loader.

    Returns:
        The subclass; `method_class` itself if it is one already.

    Raises:
        TypeError: if `method_class` lacks the contract's methods.
    """
    if getattr(method_class, "_is_rela", False):
        return method_class
    basic = _most_basic(method_class, "base_training_step")
    if basic is None or not hasattr(method_class, "learnable_params"):
        raise TypeError(
            f"expected a method class with base_training_step and learnable_params, as solo-learn's have; "
            f"got {method_class.__name__}"
        )
    momentum = _most_basic(method_class, "momentum_forward")

    class WithRela(method_class):  # type: ignore[valid-type,misc]
        _is_rela = True

        def __init__(self, cfg: Any, *args: Any, **kwargs: Any) -> None:
            config = _section(cfg, check)
            super().__init__(cfg, *args, **kwargs)
            self._rela = None if config is None else RelaRun(config, other_data)
            self._accelerating = False
            # Of the samples of the batch under way, or None for no weights.
            self._sample_weights: Tensor | None = None

        def setup(self, stage: str | None = None) -> None:
            super().setup(stage)
            if self._rela is not None and stage == "fit":
                self._rela.prepare(self)

        def on_train_start(self) -> None:
            super().on_train_start()
            if self._rela is not None:
                self._rela.record_artefacts(self)

        @property
        def learnable_params(self) -> list[dict[str, Any]]:
            params = super().learnable_params
            if self._rela is not None and self._rela.trains_head:
                params = [*params, {"name": "rela_head", "params": self.rela_head.parameters()}]
            return params

        @property
        def current_epoch(self) -> int:
            # Methods count epochs for what belongs to their own stage (freezing a layer, a temperature's warm-up, when
            # a queue starts), so they see 0 through the accelerated stage and count from the handover.
            epoch, run = super().current_epoch, getattr(self, "_rela", None)
            return epoch if run is None else run.own_epoch(epoch)

        def forward(self, X: Tensor) -> dict[str, Any]:
            if self._accelerating:
                # Only backbone and online classifier run: no projector, no predictor. The features' loss has its
                # weights already.
                return scale_gradients(basic.forward(self, X), self._sample_weights, only=("logits",))
            return scale_gradients(super().forward(X), self._sample_weights)

        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            # Rows are looked up by indices that are still on the CPU: reading them back would stall the GPU.
            if self._rela is not None and self.trainer.training:
                self._rela.note_indices(batch[0])
            return super().on_before_batch_transfer(batch, dataloader_idx)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if self._rela is None:
                return super().training_step(batch, batch_idx)
            own_stage = self._rela.own_stage(self, batch_idx)
            self._sample_weights = self._rela.weights(batch[-1].device)
            try:
                if own_stage:
                    return super().training_step(batch, batch_idx)
                return self._accelerated_step(self._rela, batch, batch_idx)
            finally:
                self._sample_weights = None

        def _accelerated_step(self, run: RelaRun, batch: Any, batch_idx: int) -> Tensor:
            indices, views, targets = batch
            views = [views] if isinstance(views, Tensor) else views[: self.num_large_crops]
            with self._large_crops_only():
                base = basic if momentum is None or self.momentum_classifier is None else momentum
                out = base.training_step(self, [indices, views, targets], batch_idx)
            return out["loss"] + run.loss(self, out["feats"], self._sample_weights)

        @contextmanager
        def _large_crops_only(self) -> Iterator[None]:
            before: tuple[int, bool] = self.num_crops, self.multicrop  # type: ignore[has-type]
            self.num_crops, self.multicrop, self._accelerating = self.num_large_crops, False, True
            try:
                yield
            finally:
                (self.num_crops, self.multicrop), self._accelerating = before, False

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int, *args: Any) -> None:
            super().on_train_batch_end(outputs, batch, batch_idx, *args)
            if self._rela is not None:
                self._rela.after_batch(self, batch_idx)

        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            super().on_save_checkpoint(checkpoint)
            if self._rela is not None:
                self._rela.save(self, checkpoint)

        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            super().on_load_checkpoint(checkpoint)
            if self._rela is not None:
                self._rela.load(self, checkpoint)

    if momentum is not None:

        @torch.no_grad()
        def momentum_forward(self: Any, X: Tensor) -> dict[str, Any]:
            own = super(WithRela, self).momentum_forward
            return momentum.momentum_forward(self, X) if self._accelerating else own(X)

        WithRela.momentum_forward = momentum_forward

    if hasattr(method_class, "multicrop_forward"):

        def multicrop_forward(self: Any, X: Tensor) -> dict[str, Any]:
            return scale_gradients(super(WithRela, self).multicrop_forward(X), self._sample_weights)

        WithRela.multicrop_forward = multicrop_forward

    WithRela.__name__ = method_class.__name__
    WithRela.__qualname__ = method_class.__qualname__
    WithRela.__doc__ = method_class.__doc__
    return WithRela  # type: ignore[return-value]
