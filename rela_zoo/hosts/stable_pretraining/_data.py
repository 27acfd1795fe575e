"""The training data of stable-pretraining: dictionaries, whose views are as the data set's transform makes them."""

from __future__ import annotations

from typing import Any

from rela_zoo.data import image_source
from rela_zoo.data.read_views import UnreadableViewsError
from rela_zoo.engine import Accelerator, ViewShape
from rela_zoo.errors import ConfigError, Problem
from rela_zoo.hosts.lightning import LoaderData
from rela_zoo.hosts.stable_pretraining._source import check_order, spt_source
from rela_zoo.hosts.stable_pretraining._views import AcceleratedTransform, Layout, find_normalize


class DictionaryData(LoaderData):
    """As `LoaderData`, of samples that are dictionaries.

    Args:
        trainer: of the run.
        image: key of the images.
        source: the images, where the data set itself can't be read.

    Attributes:
        two: a batch of two samples, with the data set's own views.
        layout: of the samples.
    """

    def __init__(self, trainer: Any, image: str, source: Any = None) -> None:
        super().__init__(trainer, indexed=False, source=source)
        self._image = image
        if source is None:
            self.source = spt_source(self.dataset, image)
        else:
            self.source = image_source(source)
            if len(self.source) == len(self.dataset):
                check_order(self.dataset, self.owner, self.source, image)
        sample = self.example()
        if not isinstance(sample, dict):
            got, fix = type(sample).__name__, "use HFDataset, or FromTorchDataset(…, names=['image', 'label'])"
            raise ConfigError([Problem("data", "a data set of dictionaries", got, fix)])
        self.layout = Layout.of(sample, image)
        self.two: Any = self._loader.collate_fn([sample, sample])

    @property
    def gpu_transform(self) -> Any:
        """What is done to batches on the device, by the data set or the data module; None for nothing."""
        found = getattr(self.owner, "gpu_transform", None)
        if found is None:
            found = getattr(self._trainer.datamodule, "gpu_transform", None)
        return found.get("train") if isinstance(found, dict) else found

    def image_place(self) -> int:
        """None: samples are dictionaries, and a transform takes the whole of one."""
        raise UnreadableViewsError(
            "samples of stable-pretraining are dictionaries; its own gpu_transform is for views there"
        )

    def transform(self, accelerator: Accelerator, views: ViewShape | None) -> Any | None:
        """As in `LoaderData`: the milder views, laid out as the data set's own.

        Raises:
            ConfigError: the data set's own transform has no Normalize, or views are made on the device.
        """
        own = self.owner.transform
        found = find_normalize(own)
        made = None if views is None else accelerator.views(own if found is None else found, views)
        if made is None:
            return None
        if self.gpu_transform is not None:
            fix = "set rela.augmentations=method, which keeps the views of gpu_transform in both stages"
            raise ConfigError([Problem("gpu_transform", "views made by the data set's transform", "a transform", fix)])
        assert found is not None
        return AcceleratedTransform(made, self.layout, self._image, "RGB" if len(found.mean) == 3 else "L")
