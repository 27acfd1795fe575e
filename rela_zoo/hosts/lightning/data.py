"""The training data of a run: joined to the prior's rows by sample id, and put back with the sampler of the subsets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from rela_zoo.engine import Accelerator, StagedDataset, ViewShape
from rela_zoo.errors import ConfigError, Problem
from rela_zoo.hosts.lightning._trainer import batches_in_flight, put_train_loader, train_loader


class TrainingData(Protocol):
    """How a host gives its training data.

    Attributes:
        source: what `image_source` takes, in the order of the indices.
        batch_size: of one process.
    """

    source: Any
    batch_size: int

    def install(self, accelerator: Accelerator, views: ViewShape | None) -> Any:
        """Put a loader over the accelerator's subsets into place.

        Args:
            accelerator: whose sampler is to be used.
            views: of the accelerated stage; None keeps the data's own.

        Returns:
            The loader, with `num_workers` and `prefetch_factor`.
        """
        ...


class WithIndices(NamedTuple):
    """A batch of a data set whose items carry no index, on its way from the loader to the module."""

    indices: Tensor
    batch: Any


class _CollateIndexed:
    """Collates (index, item) pairs; a class, for workers that are spawned."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self._collate = collate

    def __call__(self, items: list[Any]) -> WithIndices:
        return WithIndices(torch.tensor([item[0] for item in items]), self._collate([item[1] for item in items]))


class _Paired:
    """A data set as (index, item), its `transform` reached through."""

    def __init__(self, base: Any) -> None:
        self._base = base

    @property
    def transform(self) -> Any:
        return self._base.transform

    @transform.setter
    def transform(self, value: Any) -> None:
        self._base.transform = value

    def __len__(self) -> int:
        return len(self._base)

    def __getitem__(self, index: int) -> Any:
        return index, self._base[index]


class LoaderData:
    """The DataLoader of a trainer, rebuilt with the sampler of the subsets; everything else about it stays.

    Args:
        trainer: of the run.
        indexed: whether the data set's items begin with their index; else batches come as `WithIndices`.

    Raises:
        ConfigError: training data that don't come from a DataLoader with a batch size.
    """

    def __init__(self, trainer: Any, *, indexed: bool = True) -> None:
        self._trainer, self._loader, self._indexed = trainer, train_loader(trainer), indexed
        dataset = self._loader.dataset
        # The built-in host's own data set has stages from the start.
        self.source: Any = dataset.base if isinstance(dataset, StagedDataset) else dataset
        if self._loader.batch_size is None:
            fix = "give the DataLoader a batch_size"
            got = "its own batches"
            raise ConfigError([Problem("optimizer.batch_size", "a DataLoader with a batch size", got, fix)])
        self.batch_size: int = self._loader.batch_size

    def install(self, accelerator: Accelerator, views: ViewShape | None) -> DataLoader:
        """As in `TrainingData`.

        Raises:
            ConfigError: the data set's views can't be changed.
        """
        old, base = self._loader, self.source
        if not hasattr(base, "transform"):
            fix = "give the data set a `transform` attribute that its __getitem__ applies"
            raise ConfigError([Problem("data.dataset", "a data set with `transform`", type(base).__name__, fix)])
        accelerated = None if views is None else accelerator.views(base.transform, views)
        workers: dict[str, Any] = {}
        if old.num_workers:
            workers = {
                "prefetch_factor": old.prefetch_factor,
                "persistent_workers": old.persistent_workers,
                "multiprocessing_context": old.multiprocessing_context,
            }
        new: DataLoader = DataLoader(
            accelerator.dataset(base if self._indexed else _Paired(base), accelerated),
            batch_size=self.batch_size,
            sampler=accelerator.sampler,
            num_workers=old.num_workers,
            collate_fn=old.collate_fn if self._indexed else _CollateIndexed(old.collate_fn),
            pin_memory=old.pin_memory,
            # A last batch that is smaller would change the mean loss of a step, and batch norm dislikes batches of one.
            drop_last=True,
            timeout=old.timeout,
            worker_init_fn=old.worker_init_fn,
            generator=old.generator,
            **workers,
        )
        put_train_loader(self._trainer, new)
        accelerator.set_in_flight(batches_in_flight(new))
        return new
