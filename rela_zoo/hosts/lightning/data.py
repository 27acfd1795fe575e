"""The training data of a run: joined to the prior's rows by sample id, and put back with the sampler of the subsets."""

from __future__ import annotations

from typing import Any, Protocol

from torch.utils.data import (
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
)

from rela_zoo.data.raw import CollateUnlessReady, RawItems, applies_transform, find_image
from rela_zoo.data.read_views import UnreadableViewsError
from rela_zoo.engine import Accelerator, StagedDataset, SubsetSampler, ViewShape
from rela_zoo.engine.sampler import seeded
from rela_zoo.errors import ConfigError, Problem
from rela_zoo.hosts.lightning._device_views import Placement, place_images
from rela_zoo.hosts.lightning._indexed import CollateIndexed, PairedDataset, innermost
from rela_zoo.hosts.lightning._trainer import batches_in_flight, hook_on_batches, put_train_loader, train_loader
from rela_zoo.hosts.protocols import HostTrainer

# The subsets are drawn in the place of these; anything else was put in for a reason.
_PLAIN_SAMPLERS = (RandomSampler, SequentialSampler, DistributedSampler, SubsetSampler)


class TrainingData(Protocol):
    """How a host gives its training data.

    Attributes:
        source: what `image_source` takes, in the order of the indices.
        batch_size: of one process.
        placement: where views are made, known after `install`; None where the data make them by themselves.
    """

    source: Any
    batch_size: int
    placement: Placement | None

    def install(self, accelerator: Accelerator, views: ViewShape | None) -> Any:
        """Put a loader over the accelerator's subsets into place.

        Args:
            accelerator: whose sampler is to be used.
            views: of the accelerated stage; None keeps the data's own.

        Returns:
            The loader, with `num_workers` and `prefetch_factor`.
        """
        ...


class LoaderData:
    """The DataLoader of a trainer, rebuilt with the sampler of the subsets; everything else about it stays.

    Args:
        trainer: of the run.
        indexed: whether the data set's items begin with their index; else batches come as `WithIndices`.
        source: the images in the data set's order, where the data set itself can't be read: what `image_source` takes.

    Attributes:
        dataset: whose items are trained on.
        owner: itself, or the data set within, whose `transform` the items go through.
        placement: after `install`.

    Raises:
        ConfigError: training data that don't come from a DataLoader with a batch size and an ordinary sampler, or whose
            views can't be changed.
    """

    def __init__(self, trainer: HostTrainer, *, indexed: bool = True, source: Any = None) -> None:
        self._trainer, self._loader, self._indexed = trainer, train_loader(trainer), indexed
        dataset = self._loader.dataset
        # The built-in host's own data set has stages from the start.
        self.dataset: Any = dataset.base if isinstance(dataset, StagedDataset) else dataset
        self.placement: Placement | None = None
        self.source: Any = source
        if source is None:
            self.source = self.dataset.base if isinstance(self.dataset, RawItems) else self.dataset
        problems = []
        if isinstance(dataset, IterableDataset):
            fix = "load it without streaming"
            problems.append(Problem("data", "a data set whose samples can be drawn by index", "a stream", fix))
        elif self._loader.batch_size is None:
            fix = "give the DataLoader a batch_size, and no batch_sampler"
            problems.append(Problem("batch_size", "a DataLoader with a batch size", "its own batches", fix))
        elif type(self._loader.sampler) not in _PLAIN_SAMPLERS:
            got, fix = type(self._loader.sampler).__name__, "leave it out; rela.selection says how samples are drawn"
            problems.append(Problem("sampler", "a DataLoader without a sampler of its own", got, fix))
        self.owner: Any = innermost(self.dataset)
        if not hasattr(self.owner, "transform"):
            fix = "give the data set a `transform` attribute that its __getitem__ applies"
            problems.append(Problem("data.dataset", "a data set with `transform`", type(self.owner).__name__, fix))
        if problems:
            raise ConfigError(problems)
        self.batch_size: int = self._loader.batch_size or 1

    def example(self) -> Any:
        """The first item, with its own views; uses up no chance of the run."""
        return StagedDataset(PairedDataset(self.dataset), None, seed=0)[0][1]

    def transform(self, accelerator: Accelerator, views: ViewShape | None) -> Any | None:
        """The data set's transform in the accelerated stage; None for its own in both.

        Raises:
            ConfigError: it has no Normalize.
        """
        found = None if views is None else accelerator.views(self.owner.transform, views)
        with seeded(0):  # an item is looked at, and uses up no chance of the run
            applied = found is None or self._indexed or applies_transform(self.dataset, self.owner)
        if not applied:
            name = type(self.owner).__name__
            fix = f"let {name}.__getitem__ call self.transform on its image, or leave `views` out"
            expected = "a data set that applies its `transform`"
            raise ConfigError([Problem("data.dataset", expected, f"{name}, which does not", fix)])
        return found

    def image_place(self) -> int:
        """Where in an item the image is, for views that are made on the device.

        Raises:
            UnreadableViewsError: items are no sequence with an image that goes through `transform`.
        """
        if self._loader.collate_fn is not default_collate:
            raise UnreadableViewsError("the DataLoader has a collate_fn of its own")
        if not self._indexed and (hook := hook_on_batches(self._trainer)) is not None:
            raise UnreadableViewsError(f"{hook} is given batches before their views are made")
        # Under solo-learn's contract items are (index, image, target).
        if self._indexed:
            return 1
        with seeded(0):
            return find_image(self.dataset, self.owner)

    def install(self, accelerator: Accelerator, views: ViewShape | None) -> DataLoader:
        """As in `TrainingData`.

        Raises:
            ConfigError: `source` lists another number of samples, or there is no Normalize in the data set's views.
        """
        old, base, listed = self._loader, self.dataset, accelerator.sampler.subset.n
        if listed != len(base):
            fix = "give the images of just this data set, in its order"
            raise ConfigError([Problem("source", f"{len(base)} samples, as in the data set", f"{listed}", fix)])
        accelerated = self.transform(accelerator, views)
        collate, num_workers = old.collate_fn, old.num_workers
        # The built-in host has decided by itself.
        if not isinstance(base, RawItems):
            self.placement = place_images(
                self, accelerator, accelerated, num_workers=num_workers, processes=self._trainer.world_size
            )
            base, num_workers = self.placement.dataset, self.placement.num_workers
        if not self._indexed:
            base, collate = PairedDataset(base), CollateIndexed(collate)
        workers: dict[str, Any] = {}
        if num_workers:
            workers = {
                "prefetch_factor": old.prefetch_factor,
                # Stage and epoch travel with the index, so that workers need not be started anew for each epoch.
                "persistent_workers": True,
                "multiprocessing_context": old.multiprocessing_context,
            }
        new: DataLoader = DataLoader(
            accelerator.dataset(base, accelerated),
            batch_size=self.batch_size,
            sampler=accelerator.sampler,
            num_workers=num_workers,
            collate_fn=CollateUnlessReady(collate) if any(getattr(base, "stages", ())) else collate,
            pin_memory=old.pin_memory,
            # A last batch that is smaller would change the mean loss of a step, and batch norm dislikes batches of one.
            drop_last=True,
            timeout=old.timeout,
            worker_init_fn=old.worker_init_fn,
            generator=old.generator,
            **workers,
        )
        put_train_loader(self._trainer, new)
        # Of the loader as it was given: where images are held moves no handover.
        accelerator.set_in_flight(batches_in_flight(old))
        return new
