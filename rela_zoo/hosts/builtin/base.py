"""What all built-in methods share, under solo-learn's contract: names, batches and hooks are those of its base class.

Unlike there, whatever decides training is a function of (seed, step) or lies in the checkpoint, so that a resumed run
is the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from rela_zoo.hosts.builtin.config import fill_defaults
from rela_zoo.hosts.builtin.optim import OPTIMIZERS, build_scheduler, split_weight_decay
from rela_zoo.networks.backbones import build_backbone

Batch = Sequence[Any]
Outputs = dict[str, Any]


def classification(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Loss and accuracies of a classifier on a batch.

    Args:
        logits: (B, classes) float.
        targets: (B,) int64; −1 marks a sample without label, which counts for nothing.

    Returns:
        `loss`, and `acc1`, `acc5` in percent (top-k with k at most the number of classes); zeros without any label.
    """
    labelled = targets >= 0
    count = labelled.sum().clamp(min=1)
    loss = F.cross_entropy(logits, targets, ignore_index=-1, reduction="sum") / count
    best = logits.detach().topk(min(5, logits.size(1)), dim=1).indices
    hits = (best == targets.unsqueeze(1)) & labelled.unsqueeze(1)
    return {"loss": loss, "acc1": 100.0 * hits[:, 0].sum() / count, "acc5": 100.0 * hits.any(1).sum() / count}


class BaseMethod(LightningModule):
    """A backbone, an online linear classifier on its detached features, and the training of both.

    Heads come in the subclass below, so that the accelerated stage can run this class's `forward` alone.

    Args:
        cfg: a whole configuration, as `rela_zoo.hosts.builtin.config.resolve_config` returns it.

    Attributes:
        backbone: (B, 3, H, W) → (B, features_dim).
        classifier: features → logits of the online classifier.
        num_large_crops, num_small_crops, num_crops: views of a sample.
        multicrop: whether there are small crops.
    """

    # Defaults of `method_kwargs`; None marks a key that has no default.
    METHOD_KWARGS: ClassVar[Mapping[str, Any]] = {}
    # The method's trained parts besides backbone and classifier.
    heads: ClassVar[tuple[str, ...]] = ()
    # Those of them whose learning rate stays as it is.
    static_heads: ClassVar[tuple[str, ...]] = ()
    # Whether the loss has a meaning for small crops.
    takes_small_crops: ClassVar[bool] = False
    uses_momentum: ClassVar[bool] = False

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__()
        self.cfg = cfg = self.add_and_assert_specific_cfg(cfg)
        self.backbone_name: str = cfg.backbone.name
        self.backbone, self.features_dim = self._new_backbone()
        self.num_classes: int = cfg.data.num_classes
        self.classifier: nn.Module = nn.Linear(self.features_dim, self.num_classes)
        self.max_epochs: int = cfg.max_epochs
        self.batch_size: int = cfg.optimizer.batch_size
        # Rates grow with the number of accumulated batches, as they do with the batch size.
        times = cfg.accumulate_grad_batches or 1
        self.lr: float = cfg.optimizer.lr * times
        self.classifier_lr: float = cfg.optimizer.classifier_lr * times
        self.min_lr: float = cfg.scheduler.min_lr * times
        self.warmup_start_lr: float = cfg.scheduler.warmup_start_lr * times
        self.weight_decay: float = cfg.optimizer.weight_decay
        self.num_large_crops: int = cfg.data.num_large_crops
        self.num_small_crops: int = cfg.data.num_small_crops
        self.num_crops: int = self.num_large_crops + self.num_small_crops
        self.multicrop: bool = self.num_small_crops != 0
        # Makes the views of a batch that comes without them (`data.views_on: device`); set by whoever loads the data.
        self.device_views: Callable[[LightningModule, Batch], Batch] | None = None
        self.no_channel_last: bool = cfg.performance.disable_channel_last
        self.knn_eval: bool = cfg.knn_eval.enabled
        # Of what is logged as the epoch's mean: sums, and of how many batches.
        self._sums: dict[tuple[str, ...], tuple[Tensor, int]] = {}
        self._knn_bank: dict[str, list[Tensor]] = {"train": [], "train_y": [], "val": [], "val_y": []}

    @classmethod
    def add_and_assert_specific_cfg(cls, cfg: DictConfig) -> DictConfig:
        """The configuration with this method's defaults filled in; changes nothing that is set."""
        cfg = fill_defaults(cfg)
        given = OmegaConf.to_container(cfg.method_kwargs)
        assert isinstance(given, dict)
        cfg.method_kwargs = {**cls.METHOD_KWARGS, **given}
        return cfg

    def _new_backbone(self) -> tuple[nn.Module, int]:
        kwargs = OmegaConf.to_container(self.cfg.backbone.kwargs)
        assert isinstance(kwargs, dict)
        named = {str(key): value for key, value in kwargs.items()}
        return build_backbone(self.backbone_name, named, self.cfg.data.dataset, self.cfg.backbone.get("stem"))

    # --- optimisation

    @property
    def learnable_params(self) -> list[dict[str, Any]]:
        """Parameter groups: dicts with `name`, `params`, and what differs from the optimiser's settings."""
        groups: list[dict[str, Any]] = [
            {"name": "backbone", "params": self.backbone.parameters()},
            {
                "name": "classifier",
                "params": self.classifier.parameters(),
                "lr": self.classifier_lr,
                "weight_decay": 0,
            },
        ]
        for name in self.heads:
            static = {"static_lr": True} if name in self.static_heads else {}
            groups.append({"name": name, "params": getattr(self, name).parameters(), **static})
        return groups

    def configure_optimizers(self) -> Any:
        """The optimiser over `learnable_params`, and the schedule sized from the trainer's number of steps."""
        cfg = self.cfg
        groups = self.learnable_params
        if cfg.optimizer.exclude_bias_n_norm_wd:
            groups = split_weight_decay(groups)
        static = [i for i, group in enumerate(groups) if group.pop("static_lr", False)]
        kwargs: Any = OmegaConf.to_container(cfg.optimizer.kwargs)
        optimizer = OPTIMIZERS[cfg.optimizer.name](
            groups,
            lr=self.lr,  # type: ignore[call-arg]
            weight_decay=self.weight_decay,
            **kwargs,
        )
        if cfg.scheduler.name == "none":
            return optimizer
        schedule = build_scheduler(
            optimizer,
            cfg.scheduler.name,
            static_groups=static,
            steps_per_epoch=float(self.trainer.estimated_stepping_batches) / self.max_epochs,
            max_epochs=self.max_epochs,
            interval=cfg.scheduler.interval,
            warmup_epochs=cfg.scheduler.warmup_epochs,
            warmup_start_lr=self.warmup_start_lr,
            min_lr=self.min_lr,
            decay_epochs=cfg.scheduler.lr_decay_steps or (),
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step", "frequency": 1}]

    # --- forward

    def _laid_out(self, X: Tensor) -> Tensor:
        return X if self.no_channel_last else X.to(memory_format=torch.channels_last)

    def forward(self, X: Tensor) -> Outputs:
        """Images (B, 3, H, W) → `feats` (B, features_dim) and `logits` (B, classes)."""
        feats = self.backbone(self._laid_out(X))
        return {"logits": self.classifier(feats.detach()), "feats": feats}

    def multicrop_forward(self, X: Tensor) -> Outputs:
        """Small crops (B, 3, h, w) → `feats`; the classifier doesn't see them."""
        return {"feats": self.backbone(self._laid_out(X))}

    # --- training

    def base_training_step(self, X: Tensor, targets: Tensor) -> Outputs:
        """`forward` of one large crop, and the online classifier's `loss`, `acc1`, `acc5`."""
        out = self(X)
        return {**out, **classification(out["logits"], targets)}

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        """Run all views through the network.

        Args:
            batch: [indices (B,), views: list of `num_crops` tensors (B, 3, H, W), targets (B,)].
            batch_idx: position in the epoch.

        Returns:
            The outputs of `forward`, each a list with one entry a view, and the online classifier's mean `loss`,
            `acc1`, `acc5`. A method returns its total loss instead.
        """
        _, views, targets = batch
        views = [views] if isinstance(views, Tensor) else views
        if len(views) != self.num_crops:
            raise ValueError(f"expected {self.num_crops} views of each sample, got {len(views)}")
        large = [self.base_training_step(view, targets) for view in views[: self.num_large_crops]]
        outs: Outputs = {key: [out[key] for out in large] for key in large[0]}
        for view in views[self.num_large_crops :]:
            for key, value in self.multicrop_forward(view).items():
                outs.setdefault(key, []).append(value)
        for key in ("loss", "acc1", "acc5"):
            outs[key] = torch.stack(outs[key]).mean()
        self.log_means({"train_class_loss": outs["loss"], "train_acc1": outs["acc1"], "train_acc5": outs["acc5"]})
        if self.knn_eval:
            self._remember("train", torch.cat(outs["feats"][: self.num_large_crops]), targets, self.num_large_crops)
        return outs

    def log_means(self, values: Mapping[str, Tensor]) -> None:
        """Log the epoch's means of some scalars, over all ranks.

        They are added up here, and handed over with the epoch's last batch: Lightning takes a third of a millisecond
        for each value of each batch, and a GPU waits.
        """
        if self._trainer is None:
            return
        names = tuple(values)
        latest = torch.stack([values[name].detach().float() for name in names])
        total, count = self._sums.get(names, (torch.zeros_like(latest), 0))
        self._sums[names] = (total + latest, count + 1)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Hand over the means, if this batch is the epoch's last."""
        trainer = self.trainer
        if trainer.is_last_batch or trainer.should_stop or trainer.global_step == trainer.max_steps:
            self._hand_over_means()

    def on_train_epoch_end(self) -> None:
        """Hand over the means of an epoch that was cut short."""
        self._hand_over_means()

    def _hand_over_means(self) -> None:
        for names, (total, count) in self._sums.items():
            means = dict(zip(names, total / count, strict=True))
            self.log_dict(means, on_step=False, on_epoch=True, sync_dist=True, batch_size=self.batch_size)
        self._sums.clear()

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Make the views of a training batch, if it came without them."""
        if self.device_views is None or not self.trainer.training:
            return batch
        return self.device_views(self, batch)

    # --- validation

    def validation_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """Accuracy of the online classifier on held-out images.

        Args:
            batch: [images (B, 3, H, W), targets (B,)].
            batch_idx: position in the loader.
        """
        images, targets = batch
        out = self.base_training_step(images, targets)
        metrics = {"val_loss": out["loss"], "val_acc1": out["acc1"], "val_acc5": out["acc5"]}
        self.log_dict(metrics, on_step=False, on_epoch=True, sync_dist=True, batch_size=targets.size(0), prog_bar=True)
        if self.knn_eval:
            self._remember("val", out["feats"], targets, 1)
        return metrics

    def _remember(self, part: str, feats: Tensor, targets: Tensor, views: int) -> None:
        targets = targets.repeat(views)
        self._knn_bank[part].append(feats.detach().float()[targets >= 0])
        self._knn_bank[f"{part}_y"].append(targets[targets >= 0])

    def on_validation_epoch_end(self) -> None:
        """With `knn_eval`, the accuracy of the nearest neighbours among this epoch's training features."""
        if not self.knn_eval:
            return
        from rela_zoo.analysis.evaluate import knn_accuracy

        bank = {key: torch.cat(rows) for key, rows in self._knn_bank.items() if rows}
        if len(bank) == 4 and all(len(rows) for rows in bank.values()):
            options = self.cfg.knn_eval
            accuracy = knn_accuracy(
                bank["train"], bank["train_y"], bank["val"], bank["val_y"], k=options.k, distance=options.distance_func
            )
            self.log("val_knn_acc1", 100.0 * accuracy, sync_dist=True)
        for rows in self._knn_bank.values():
            rows.clear()


class MethodWithHeads(BaseMethod):
    """A method whose heads see the features of every view.

    A method names its heads in `heads`, and overrides `head_outputs` and `training_step`.
    """

    def head_outputs(self, feats: Tensor) -> Outputs:
        """What the method's heads make of features (B, features_dim)."""
        raise NotImplementedError

    def forward(self, X: Tensor) -> Outputs:
        """As in the base class, with the heads' outputs."""
        out = super().forward(X)
        return {**out, **self.head_outputs(out["feats"])}

    def multicrop_forward(self, X: Tensor) -> Outputs:
        """As in the base class, with the heads' outputs."""
        out = super().multicrop_forward(X)
        return {**out, **self.head_outputs(out["feats"])}
