"""Where the training images are kept, and where their views are made: `data.cache` and `data.views_on`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rela_zoo._io.log import logger
from rela_zoo.data.datasets import ImageDataset
from rela_zoo.data.decoded import HeldSource, decode_images
from rela_zoo.data.raw import RawItems
from rela_zoo.data.views import Described
from rela_zoo.engine import SubsetSampler
from rela_zoo.hosts.lightning import DeviceViews

log = logger(__name__)


def prepare_images(data: Mapping[str, Any], base: ImageDataset) -> tuple[ImageDataset | RawItems, DeviceViews | None]:
    """The training set as `data.cache` and `data.views_on` want it.

    Args:
        data: that section of a checked configuration.
        base: the data set, as opened.

    Returns:
        The data set, and what makes the views if workers don't.

    Raises:
        RelaZooError: if the device is to hold images of different sizes.
    """
    held = None
    if data["cache"] != "none":
        held = decode_images(base.source, num_workers=data["num_workers"])
        base.source = HeldSource(base.source, held)
        log.info("holding %s decoded images, %.0f MB", f"{len(held):,}", held.nbytes / 1e6)
    if data["views_on"] == "workers":
        return base, None
    # Refused at once, not at the first batch.
    images = held.stacked("data.cache") if held is not None and data["cache"] == "device" else None
    return RawItems(base, base, 1, resident=images is not None), DeviceViews(_described, images, _sampler)


def _described(module: Any, stage: int) -> Described:
    """What the loader's data set would do to an image of this stage."""
    described: Described = module.trainer.train_dataloader.dataset.transforms[stage].described
    return described


def _sampler(module: Any) -> SubsetSampler:
    found: SubsetSampler = module.trainer.train_dataloader.sampler
    return found
