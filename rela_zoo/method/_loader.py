"""Rebuilding the host's train loader: its data set in two stages, its sampler an epoch's subset."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader

from rela_zoo.errors import ConfigError, Problem
from rela_zoo.subset import EpochSubset, StagedDataset, SubsetSampler


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


def rebuild_loader(
    trainer: Any, *, ratio: float, seed: int, accelerated_views: Any | None
) -> tuple[SubsetSampler, DataLoader]:
    """Put a loader over epoch subsets in the place of the trainer's own; everything else about it stays.

    Args:
        ratio: fraction of the data in each epoch, in (0, 1].
        seed: of subsets and views.
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
    try:
        subset = EpochSubset(len(dataset), ratio, seed)
        sampler = SubsetSampler(subset, batch_size, num_replicas=trainer.world_size, rank=trainer.global_rank)
    except ValueError as error:
        fix = "raise rela.data_ratio, or lower optimizer.batch_size"
        raise ConfigError([Problem("rela.data_ratio", "at least one batch in every epoch", str(error), fix)]) from error
    workers: dict[str, Any] = {}
    if old.num_workers:
        workers = {
            "prefetch_factor": old.prefetch_factor,
            "persistent_workers": old.persistent_workers,
            "multiprocessing_context": old.multiprocessing_context,
        }
    new: DataLoader = DataLoader(
        StagedDataset(dataset, accelerated_views, seed),
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


def optimiser_steps(trainer: Any, loader: DataLoader) -> int:
    """Optimiser steps of one epoch: Lightning makes one at its last batch even if fewer micro-batches have gathered."""
    limit, batches = trainer.limit_train_batches, len(loader)
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    return -(-batches // trainer.accumulate_grad_batches)
