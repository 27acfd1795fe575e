"""Indices for a data set whose items carry none: they travel with each batch to the module, and are taken off there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rela_zoo.data.raw import Ready


class WithIndices(NamedTuple):
    """A batch of a data set whose items carry no index, on its way from the loader to the module."""

    indices: Tensor
    batch: Any


class CollateIndexed:
    """Collates (index, item) pairs; a class, for workers that are spawned."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self._collate = collate

    def __call__(self, items: list[Any]) -> WithIndices:
        return WithIndices(torch.tensor([item[0] for item in items]), self._collate([item[1] for item in items]))


class PairedDataset:
    """A data set as (index, item); its `transform` is reached through, and through the `Subset` it may be."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    @property
    def transform(self) -> Any:
        return innermost(self.dataset).transform

    @transform.setter
    def transform(self, value: Any) -> None:
        innermost(self.dataset).transform = value

    @property
    def stages(self) -> tuple[bool, bool]:
        """In which stages batches come without views."""
        stages: tuple[bool, bool] = getattr(self.dataset, "stages", (False, False))
        return stages

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return index, self.dataset[index]

    def raw_batch(self, indices: list[int], epoch: int, stage: int, seed: int) -> Ready:
        """As of `RawItems`, with the indices."""
        (batch,) = self.dataset.raw_batch(indices, epoch, stage, seed)
        return Ready(WithIndices(torch.tensor(indices), batch))


def without_indices(own: Callable[[Any, int], Any], note: Callable[[Tensor], None]) -> Callable[[Any, int], Any]:
    """A hook `on_before_batch_transfer`, behind one that takes the indices off a training batch and notes them."""

    def on_before_batch_transfer(batch: Any, dataloader_idx: int) -> Any:
        if isinstance(batch, tuple) and isinstance(batch, WithIndices):
            note(batch.indices)
            batch = batch.batch
        return own(batch, dataloader_idx)

    return on_before_batch_transfer


def innermost(dataset: Any) -> Any:
    """The data set that makes the items: of a `Subset`, the one it is of."""
    while hasattr(dataset, "indices") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    return dataset
