"""Batches of images without views, which are made later, where the network is.

Any map-style data set whose items are sequences with the image at one place, and that applies its `transform` to it,
gives such batches: `RawItems` takes its items as they are, and only keeps the image from being transformed. So labels
and all else are what the data set gives, whichever kind it is. `HeldItems` has read them all beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from rela_zoo.data.decoded import DecodedImages, hold
from rela_zoo.data.packed import Packed, pack, unpack
from rela_zoo.data.read_views import UnreadableViewsError
from rela_zoo.errors import RelaZooError


class RawBatch:
    """Images of a batch without views, in place of the views; moves between devices as a tensor does.

    Args:
        pixels: their pixels, (3, H, W) uint8 each, packed in one tensor; None if the device has the images.
        indices: (B,) int64, of the samples; stays on the CPU.
        epoch, stage: of the batch; stage 0 is the accelerated one, 1 the method's own.
        seed: of the views.
    """

    def __init__(self, pixels: Packed | None, indices: Tensor, epoch: int, stage: int, seed: int) -> None:
        self._pixels, self.indices = pixels, indices
        self.epoch, self.stage, self.seed = epoch, stage, seed

    @property
    def key(self) -> tuple[Any, ...]:
        """What its views depend on, apart from the images."""
        return (self.seed, self.epoch, self.stage, self.indices.numpy().tobytes())

    def of(self, indices: Tensor) -> RawBatch:
        """The one of other samples whose images the device has."""
        return RawBatch(None, indices, self.epoch, self.stage, self.seed)

    def images(self) -> Tensor | list[Tensor] | None:
        """(B, 3, H, W) uint8, channels last; B of (3, h, w) if their sizes differ; None if the device has them."""
        if self._pixels is None:
            return None
        values, shapes = self._pixels
        if len(set(shapes)) == 1:
            return values.view(len(shapes), *shapes[0]).permute(0, 3, 1, 2)
        return [one.permute(2, 0, 1) for one in unpack(self._pixels)]

    def _with(self, values: Tensor) -> RawBatch:
        assert self._pixels is not None
        return RawBatch(Packed(values, self._pixels.shapes), self.indices, self.epoch, self.stage, self.seed)

    def to(self, device: Any, **options: Any) -> RawBatch:
        """The same with its pixels on a device."""
        return self if self._pixels is None else self._with(self._pixels.values.to(device, non_blocking=True))

    def pin_memory(self) -> RawBatch:
        """The same with its pixels in pinned memory."""
        return self if self._pixels is None else self._with(self._pixels.values.pin_memory())


class Ready(NamedTuple):
    """What needs no collating: a batch."""

    batch: Any


class CollateUnlessReady:
    """The collating of a loader, through which whole batches pass as they are; a class, for spawned workers."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(self, items: Any) -> Any:
        return items.batch if isinstance(items, Ready) else self.collate(items)


class _Untouched:
    """A transform that leaves an image to `RawItems`.

    Args:
        note: is shown it.
    """

    def __init__(self, note: Callable[[Any], None] | None = None) -> None:
        self._note = note

    def __call__(self, image: Any) -> Any:
        if self._note is not None:
            self._note(image)
        return image


_UNTOUCHED = _Untouched()


def as_pixels(image: Any) -> Tensor:
    """A PIL image in RGB, or uint8 pixels (H, W, 3), as (H, W, 3) uint8.

    Raises:
        RelaZooError: it is neither. Others are not converted: the data set's own transform may do so in its own way.
    """
    if not _is_image(image):
        raise RelaZooError(
            "an item of the training data has no image in its place",
            expected="a PIL image in RGB or uint8 pixels (H, W, 3), which go through the data set's transform",
            got=_said(image),
            fix="convert images to RGB where the data set opens them, or set rela.views_on=workers and rela.cache=none",
        )
    return torch.from_numpy(np.array(image))


class Items:
    """The items of a data set without its views.

    Args:
        dataset: map-style.
        owner: itself, or the data set within, whose `transform` its items go through.
        place: of the image in an item, a sequence.
    """

    def __init__(self, dataset: Any, owner: Any, place: int) -> None:
        self.dataset, self.owner, self.place = dataset, owner, place

    def __len__(self) -> int:
        return len(self.dataset)

    def item(self, index: int) -> list[Any]:
        """One item, the image as it is before the data set's own transform."""
        return list(self.as_it_is(index))

    def as_it_is(self, index: int, note: Callable[[Any], None] | None = None) -> Any:
        """The same, whatever an item is; `note` is shown what the data set's own transform is given."""
        own, self.owner.transform = self.owner.transform, _UNTOUCHED if note is None else _Untouched(note)
        try:
            return self.dataset[index]
        finally:
            self.owner.transform = own

    def rest(self, index: int) -> list[Any]:
        """One item, None in place of the image."""
        item = self.item(index)
        item[self.place] = None
        return item


def find_image(dataset: Any, owner: Any) -> int:
    """The place in a data set's items of what `owner.transform` makes of the image.

    Raises:
        UnreadableViewsError: items are no sequence, have it not once, or the transform is given no image.
    """
    given: list[Any] = []
    item = Items(dataset, owner, 0).as_it_is(0, given.append)
    if len(given) != 1 or not _is_image(given[0]):
        kind = _said(given[0]) if given else "nothing"
        raise UnreadableViewsError(f"the data set's transform is given {kind}, and no PIL image in RGB or uint8 array")
    parts = item if isinstance(item, list | tuple) else ()
    places = [place for place, part in enumerate(parts) if part is given[0]]
    if len(places) != 1:
        raise UnreadableViewsError("the data set's items are no sequence with what its transform makes in one place")
    return places[0]


def applies_transform(dataset: Any, owner: Any) -> bool:
    """Whether a data set's first item goes through `owner.transform` as it is now: some apply what it was at first."""
    given: list[Any] = []
    Items(dataset, owner, 0).as_it_is(0, given.append)
    return bool(given)


def _is_image(one: Any) -> bool:
    array = isinstance(one, np.ndarray) and one.dtype == np.uint8 and one.ndim == 3 and one.shape[2] == 3
    return array or (isinstance(one, Image.Image) and one.mode == "RGB")


def _said(image: Any) -> str:
    mode = f" of mode {image.mode}" if isinstance(image, Image.Image) else ""
    return f"{type(image).__name__}{mode}"


def changes_when_read_again(items: Items) -> bool:
    """Whether any of a few items of a data set is another when it is read a second time, by chance or otherwise."""

    def same(one: Any, other: Any) -> bool:
        if isinstance(one, Mapping):
            return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
        if isinstance(one, Tensor) or isinstance(other, Tensor):
            return torch.equal(torch.as_tensor(one), torch.as_tensor(other))
        if isinstance(one, list | tuple):
            return len(one) == len(other) and all(map(same, one, other))
        return bool(np.array_equal(np.asarray(one), np.asarray(other)))

    picks = sorted({int(i) for i in np.linspace(0, len(items) - 1, 8)})
    return not all(same(items.item(i), items.item(i)) for i in picks)


class HeldItems(Dataset):
    """A data set whose items have been read once, images and all else; `transform` makes the views.

    Args:
        images: of all items.
        rests: the items, None in place of the image.
        place: of the image.
        transform: of an image; None for the image itself.
        arrays: whether images are given as arrays (H, W, 3), not by PIL.
    """

    def __init__(
        self, images: DecodedImages, rests: Sequence[list[Any]], place: int, transform: Any, arrays: bool = False
    ) -> None:
        self.images, self._rests, self._place, self.transform = images, rests, place, transform
        self._arrays = arrays

    def __len__(self) -> int:
        return len(self._rests)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        item = self.rest(index)
        image: Any = self.images.image(index)
        if self._arrays:
            image = np.array(image)
        item[self._place] = image if self.transform is None else self.transform(image)
        return tuple(item)

    def rest(self, index: int) -> list[Any]:
        """One item, None in place of the image."""
        return list(self._rests[index])


class _Read(Dataset):
    def __init__(self, items: Items) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[Tensor, list[Any]]:
        item, place = self._items.item(index), self._items.place
        pixels, item[place] = as_pixels(item[place]), None
        return pixels, item


def _packed(chunk: list[tuple[Tensor, list[Any]]]) -> tuple[Packed, list[list[Any]]]:
    return pack([pixels for pixels, _ in chunk]), [rest for _, rest in chunk]


def hold_items(items: Items, *, num_workers: int = 0) -> HeldItems:
    """Read all items of a data set, and hold them in memory.

    Args:
        items: of the data set; its transform is taken over.
        num_workers: processes that read; 0 reads in this one.
    """
    loader = DataLoader(
        _Read(items),
        batch_size=64,
        num_workers=num_workers,
        collate_fn=_packed,
        # A generator of its own: a training that holds its images is the same training.
        generator=torch.Generator(),
    )
    rests: list[list[Any]] = []

    def chunks() -> Any:
        for pixels, rest in loader:
            rests.extend(rest)
            yield unpack(pixels)

    images = hold(chunks(), len(items), copied=num_workers > 0)
    arrays = isinstance(items.item(0)[items.place], np.ndarray)
    return HeldItems(images, rests, items.place, items.owner.transform, arrays)


class RawItems(Dataset):
    """A data set whose batches come without views, in the stages whose views are made later.

    Args:
        base: the data set, or `HeldItems` of it.
        owner: itself, or the data set within, whose `transform` its items go through.
        place: of the image in an item.
        stages: of which stages (the accelerated one, the method's own) batches come without views.
        resident: whether the device has the images, so that batches need none; `base` then has `rest`.
    """

    def __init__(
        self, base: Any, owner: Any, place: int, stages: tuple[bool, bool] = (True, True), resident: bool = False
    ) -> None:
        self.base, self.place, self.stages, self.resident = base, place, stages, resident
        self._items = Items(base, owner, place)

    @property
    def transform(self) -> Any:
        """Of the items, in the stages whose batches come with views."""
        return self._items.owner.transform

    @transform.setter
    def transform(self, value: Any) -> None:
        self._items.owner.transform = value

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: int) -> Any:
        return self.base[index]

    def raw_batch(self, indices: list[int], epoch: int, stage: int, seed: int) -> Ready:
        """The items of these samples, collated as torch does, a `RawBatch` in place of the images."""
        items = [self._rest(i) if self.resident else self._items.item(i) for i in indices]
        pixels = None if self.resident else pack([as_pixels(item[self.place]) for item in items])
        batch = [
            None if place == self.place else default_collate([item[place] for item in items])
            for place in range(len(items[0]))
        ]
        batch[self.place] = RawBatch(pixels, torch.tensor(indices), epoch, stage, seed)
        return Ready(batch)

    def _rest(self, index: int) -> list[Any]:
        rest: list[Any] = self.base.rest(index)
        return rest
