"""From a checked configuration to loaders and a trainer."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig
from torch.utils.data import DataLoader, Dataset, default_collate

from rela_zoo.data.datasets import ImageDataset
from rela_zoo.data.raw import CollateUnlessReady, RawItems
from rela_zoo.data.views import build_views, validation_transform
from rela_zoo.engine import StagedDataset, SubsetSampler
from rela_zoo.hosts.builtin.config import as_plain, count_devices, normalisation
from rela_zoo.hosts.builtin.progress import TrainingProgress
from rela_zoo.selection.subset import EpochSubset


def train_loader(cfg: DictConfig, base: ImageDataset | RawItems, processes: int) -> DataLoader:
    """The training data as `fit` gets them; with `rela` the method puts sampler and stages in when it is set up."""
    base.transform = build_views(as_plain(cfg.augmentations), *normalisation(cfg))
    on_device = cfg.data.cache == "device"
    sampler: SubsetSampler | None = None
    dataset: Dataset = base
    if cfg.get("rela") is None:
        sampler = SubsetSampler(EpochSubset(len(base), 1.0, cfg.seed), cfg.optimizer.batch_size, num_replicas=processes)
        dataset = StagedDataset(base, None, cfg.seed)
    return DataLoader(
        dataset,
        batch_size=cfg.optimizer.batch_size,
        sampler=sampler,
        num_workers=0 if on_device else cfg.data.num_workers,
        collate_fn=CollateUnlessReady(default_collate) if isinstance(base, RawItems) else None,
        pin_memory=torch.cuda.is_available(),
        drop_last=True,
    )


def val_loader(cfg: DictConfig, base: ImageDataset | None) -> DataLoader | None:
    """The held-out images, if there are any."""
    if base is None:
        return None
    size = int(as_plain(cfg.augmentations)[0]["crop_size"])
    base.transform, base.indexed = validation_transform(size, *normalisation(cfg)), False
    return DataLoader(base, batch_size=cfg.optimizer.batch_size, num_workers=cfg.data.num_workers)


def make_trainer(cfg: DictConfig, processes: int, callbacks: list[Callback], loggers: list[Logger]) -> Trainer:
    """Lightning's Trainer by the keys of the configuration that it knows, with these callbacks and loggers alone."""
    plain = as_plain(cfg)
    accepted = inspect.signature(Trainer.__init__).parameters
    settings = {key: value for key, value in plain.items() if key in accepted}
    devices = settings["devices"]
    if settings["accelerator"] == "cpu":
        devices = count_devices(devices, "cpu")
    strategy: Any = settings.get("strategy") or "auto"
    if processes == 1 and strategy == "ddp":
        strategy = "auto"
    elif processes > 1 and strategy in ("auto", "ddp"):
        from lightning.pytorch.strategies import DDPStrategy

        strategy = DDPStrategy(find_unused_parameters=False)
    settings = {
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        **settings,
        "devices": devices,
        "strategy": strategy,
        "accumulate_grad_batches": settings["accumulate_grad_batches"] or 1,
        "logger": loggers or False,
        "enable_checkpointing": False,
        "callbacks": callbacks,
    }
    if settings.get("enable_progress_bar", True):
        callbacks.append(TrainingProgress())
    settings["enable_progress_bar"] = False
    # Packages may add callbacks to every Trainer of an environment, as stable-pretraining does: bars, files, trackers.
    known = {id(one) for one in callbacks}
    trainer = Trainer(**settings)
    every: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    every[:] = [one for one in every if id(one) in known or type(one).__module__.startswith("lightning.")]
    return trainer
