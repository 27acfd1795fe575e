"""Rebuilding the host's train loader: its data set in two stages, its sampler an epoch's subset."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from rela_zoo.errors import ConfigError, Problem
from rela_zoo.selection.subset import StagedDataset, Subset, SubsetSampler


def train_loader(trainer: Any) -> DataLoader:
    """The DataLoader given to `trainer.fit`.

    Raises:
        ConfigError: if the training data come in another way, whose order can't be controlled.
    """
    loader = trainer.fit_loop._data_source.instance
    if isinstance(loader, DataLoader):
        return loader
    got = type(loader).__name__
    fix = "use data.format=image_folder"
    raise ConfigError([Problem("data.format", "training data from a torch DataLoader", got, fix)])


def base_dataset(loader: DataLoader) -> Any:
    """The host's own data set, without the staging that the built-in host's loader has from the start."""
    return loader.dataset.base if isinstance(loader.dataset, StagedDataset) else loader.dataset


def subset_sampler(subset: Subset, batch_size: int, trainer: Any) -> SubsetSampler:
    """The sampler of this rank.

    Raises:
        ConfigError: an epoch's subset is smaller than one batch.
    """
    try:
        return SubsetSampler(subset, batch_size, num_replicas=trainer.world_size, rank=trainer.global_rank)
    except ValueError as error:
        fix = "raise rela.data_ratio, or lower optimizer.batch_size"
        raise ConfigError([Problem("rela.data_ratio", "at least one batch in every epoch", str(error), fix)]) from error


def rebuild_loader(trainer: Any, subset: Subset, *, accelerated_views: Any | None) -> tuple[SubsetSampler, DataLoader]:
    """Put a loader over epoch subsets in the place of the trainer's own; everything else about it stays.

    Args:
        trainer: of the run.
        subset: which samples each epoch has; its seed is that of the views too.
        accelerated_views: transform of the accelerated stage, or None for the host's own throughout.

    Raises:
        ConfigError: the data set's views can't be changed, or the subset is smaller than one batch.
    """
    old = train_loader(trainer)
    dataset, batch_size = base_dataset(old), old.batch_size
    if not hasattr(dataset, "transform"):
        fix = "give the data set a `transform` attribute that its __getitem__ applies"
        raise ConfigError([Problem("data.dataset", "a data set with `transform`", type(dataset).__name__, fix)])
    if batch_size is None:
        fix = "give the DataLoader a batch_size"
        raise ConfigError([Problem("optimizer.batch_size", "a DataLoader with a batch size", "its own batches", fix)])
    sampler = subset_sampler(subset, batch_size, trainer)
    workers: dict[str, Any] = {}
    if old.num_workers:
        workers = {
            "prefetch_factor": old.prefetch_factor,
            "persistent_workers": old.persistent_workers,
            "multiprocessing_context": old.multiprocessing_context,
        }
    new: DataLoader = DataLoader(
        StagedDataset(dataset, accelerated_views, subset.seed),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=old.num_workers,
        collate_fn=old.collate_fn,
        pin_memory=old.pin_memory,
        # A last batch that is smaller would change the mean loss of a step, and batch norm dislikes batches of one.
        drop_last=True,
        timeout=old.timeout,
        worker_init_fn=old.worker_init_fn,
        generator=old.generator,
        **workers,
    )
    trainer.fit_loop._data_source.instance = new
    return sampler, new


def batches_in_flight(loader: DataLoader) -> int:
    """How many batches may have been drawn from the sampler but not trained on yet, at most."""
    workers = loader.num_workers * (loader.prefetch_factor or 0)
    # Lightning looks one batch ahead to know which is the last; one more for the batch being handed over.
    return workers + 2


def optimiser_steps(trainer: Any, sampler: SubsetSampler, epochs: int) -> int:
    """Optimiser steps of the first `epochs` epochs.

    Lightning makes one at the last batch of an epoch even if fewer micro-batches have gathered.
    """
    limit = trainer.limit_train_batches

    def steps(epoch: int) -> int:
        batches = sampler.length(epoch) // sampler.batch_size
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        return -(-batches // trainer.accumulate_grad_batches)

    return epochs * steps(0) if sampler.subset.counts is None else sum(steps(epoch) for epoch in range(epochs))


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; from ordinary memory the copy would wait for a GPU."""
    if tensor.device == device:
        return tensor
    pinned = tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor
    return pinned.to(device, non_blocking=True)
