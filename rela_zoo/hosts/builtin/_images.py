"""Where the training images are kept, and where their views are made: `data.cache` and `data.views_on`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rela_zoo._io.log import logger
from rela_zoo.data.batch_views import BatchViews
from rela_zoo.data.datasets import ImageDataset
from rela_zoo.data.decoded import DecodedImages, HeldSource, decode_images

log = logger(__name__)


class RawBatch:
    """Images of a batch without views, in place of the views; moves between devices as a tensor does.

    Args:
        pixels: (B, 3, H, W) uint8, or None if the device has the images.
        sizes: (B, 2) int64, height and width of each image within `pixels`; None if all fill it.
        indices: (B,) int64, of the samples; stays on the CPU.
        epoch, stage: of the batch; stage 0 is the accelerated one, 1 the method's own.
        seed: of the views.
    """

    def __init__(
        self, pixels: Tensor | None, sizes: Tensor | None, indices: Tensor, epoch: int, stage: int, seed: int
    ) -> None:
        self.pixels, self.sizes, self.indices = pixels, sizes, indices
        self.epoch, self.stage, self.seed = epoch, stage, seed

    def _with(self, pixels: Tensor | None) -> RawBatch:
        return RawBatch(pixels, self.sizes, self.indices, self.epoch, self.stage, self.seed)

    def to(self, device: Any, **options: Any) -> RawBatch:
        """The same with its pixels on a device."""
        return self._with(None if self.pixels is None else self.pixels.to(device, non_blocking=True))

    def pin_memory(self) -> RawBatch:
        """The same with its pixels in pinned memory."""
        return self._with(None if self.pixels is None else self.pixels.pin_memory())


def as_it_is(batch: Any) -> Any:
    """Collate what is a batch already."""
    return batch


class RawImages(Dataset):
    """A data set whose batches come without views.

    Args:
        base: the data set.
        resident: whether the device has the images, so that batches need none.
    """

    collate = staticmethod(as_it_is)

    def __init__(self, base: ImageDataset, resident: bool) -> None:
        self._base, self._resident = base, resident
        self.source, self.transform = base.source, base.transform

    def __len__(self) -> int:
        return len(self._base)

    def raw_batch(self, indices: list[int], epoch: int, stage: int, seed: int) -> list[Any]:
        """[indices (B,), RawBatch, targets (B,)] of these samples."""
        pixels, sizes = (None, None) if self._resident else self._pixels(indices)
        where = torch.tensor(indices)
        targets = torch.tensor([self._base.target(i) for i in indices])
        return [where, RawBatch(pixels, sizes, where, epoch, stage, seed), targets]

    def _pixels(self, indices: list[int]) -> tuple[Tensor, Tensor | None]:
        images = [torch.from_numpy(np.array(self.source.image(i))) for i in indices]
        sizes = torch.tensor([image.shape[:2] for image in images])
        if (sizes == sizes[0]).all():
            return torch.stack(images).permute(0, 3, 1, 2), None
        height, width = sizes.amax(0).tolist()
        canvas = torch.zeros(len(images), height, width, 3, dtype=torch.uint8)
        for place, image in zip(canvas, images, strict=True):
            place[: image.shape[0], : image.shape[1]] = image
        return canvas.permute(0, 3, 1, 2), sizes


class DeviceViews:
    """Makes the views of each batch where the network is, as the batch's stage wants them.

    Args:
        held: images that are to live on the device, or None if batches bring theirs.
    """

    def __init__(self, held: DecodedImages | None) -> None:
        # Refused at once, not at the first batch.
        self._images = None if held is None else held.stacked()
        self._makers: dict[tuple[int, int], BatchViews] = {}

    def __call__(self, module: Any, batch: Any) -> list[Any]:
        """[indices, RawBatch, targets] on the module's device → [indices, views, targets]."""
        indices, raw, targets = batch
        key = (raw.stage, raw.seed)
        if key not in self._makers:
            # What the loader's data set would do to an image of this stage.
            described = module.trainer.train_dataloader.dataset.transforms[raw.stage].described
            augmentations, mean, std = described
            self._makers[key] = BatchViews(augmentations, mean, std, raw.seed)
        pixels = raw.pixels
        if pixels is None:
            assert self._images is not None
            self._images = self._images.to(module.device)
            pixels = self._images[indices]
        views = self._makers[key](pixels, raw.indices, raw.epoch, raw.sizes)
        return [indices, [view.to(module.dtype) for view in views], targets]


Maker = Callable[[Any, Any], list[Any]]


def prepare_images(data: Mapping[str, Any], base: ImageDataset) -> tuple[ImageDataset | RawImages, Maker | None]:
    """The training set as `data.cache` and `data.views_on` want it, and what makes the views if workers don't.

    Args:
        data: that section of a checked configuration.
        base: the data set, as opened.

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
    resident = data["cache"] == "device"
    return RawImages(base, resident), DeviceViews(held if resident else None)
