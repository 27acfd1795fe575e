"""Batches without views: the items are the data set's own, and only the image stays untouched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset

from rela_zoo.data.raw import (
    CollateUnlessReady,
    HeldItems,
    Items,
    RawBatch,
    RawItems,
    applies_transform,
    changes_when_read_again,
    find_image,
    hold_items,
)
from rela_zoo.data.read_views import UnreadableViewsError
from rela_zoo.errors import RelaZooError

SIZES = [(8, 6), (5, 9), (8, 6), (4, 4)]


class Pictures(Dataset):
    """Items (number, transform(picture), name, label); a transform that is called shows it."""

    def __init__(self, sizes: Any = SIZES) -> None:
        generator = np.random.default_rng(0)
        self.pixels = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
        self.transform: Any = lambda image: torch.zeros(3)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Any:
        return index, self.transform(Image.fromarray(self.pixels[index])), f"picture {index}", 10 * index


def _same(raw: Any, pictures: Pictures, indices: list[int]) -> None:
    for image, index in zip(raw.images(), indices, strict=True):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), pictures.pixels[index])


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("indices", [[2, 0], [1, 3, 0]])
def test_a_batch_has_everything_but_views(held: bool, indices: list[int]) -> None:
    pictures = Pictures()
    base: Any = hold_items(Items(pictures, pictures, 1)) if held else pictures
    items = RawItems(base, base, 1)
    numbers, raw, names, labels = items.raw_batch(indices, epoch=3, stage=1, seed=7).batch
    assert numbers.tolist() == raw.indices.tolist() == indices
    assert names == [f"picture {i}" for i in indices]
    assert labels.tolist() == [10 * i for i in indices]
    assert (raw.epoch, raw.stage, raw.seed) == (3, 1, 7)
    _same(raw, pictures, indices)
    # Of one size they are one tensor.
    assert isinstance(raw.images(), torch.Tensor) == (indices == [2, 0])
    _same(raw.to("cpu"), pictures, indices)
    assert torch.equal(items[0][1], torch.zeros(3)), "with views as always"


def test_images_on_the_device_are_not_read() -> None:
    pictures = Pictures([(4, 4)] * 3)
    held = hold_items(Items(pictures, pictures, 1))
    numbers, raw, _, labels = RawItems(held, held, 1, resident=True).raw_batch([2, 1], 0, 0, 0).batch
    assert raw.images() is None
    assert raw.to("cpu") is raw
    assert (numbers.tolist(), labels.tolist()) == ([2, 1], [20, 10])


@pytest.mark.parametrize("workers", [0, 2])
def test_held_items_are_the_same_items(workers: int) -> None:
    pictures = Pictures()
    pictures.transform = np.asarray
    held = hold_items(Items(pictures, pictures, 1), num_workers=workers)
    assert len(held) == 4
    for index in range(4):
        for mine, theirs in zip(held[index], pictures[index], strict=True):
            assert np.array_equal(mine, theirs)
    held.transform = None
    assert held[1][1].size == (9, 5)


def test_a_subset_is_read_through() -> None:
    pictures = Pictures()
    part = Subset(pictures, [3, 1])
    _, raw, _, labels = RawItems(part, pictures, 1).raw_batch([1, 0], 0, 0, 0).batch
    assert labels.tolist() == [10, 30]
    assert raw.indices.tolist() == [1, 0]
    _same(raw, pictures, [1, 3])


def test_the_own_transform_is_put_back_after_an_error() -> None:
    pictures = Pictures()
    own = pictures.transform
    with pytest.raises(IndexError):
        Items(pictures, pictures, 1).item(99)
    assert pictures.transform is own


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "HSV"])
def test_images_that_are_not_rgb_are_not_converted_here(mode: str) -> None:
    """The data set's own transform may do so in its own way: on white, in one channel, by hue."""

    class Other(Pictures):
        def __getitem__(self, index: int) -> Any:
            return index, self.transform(Image.fromarray(self.pixels[index]).convert(mode))

    pictures = Other()
    with pytest.raises(RelaZooError, match=f"Image of mode {mode}"):
        RawItems(pictures, pictures, 1).raw_batch([0], 0, 0, 0)
    with pytest.raises(UnreadableViewsError, match=f"given Image of mode {mode}"):
        find_image(pictures, pictures)


def test_arrays_are_held_as_arrays() -> None:
    class Arrays(Pictures):
        def __getitem__(self, index: int) -> Any:
            return index, self.transform(self.pixels[index])

    pictures = Arrays()
    pictures.transform = lambda array: array.mean(axis=(0, 1))
    held = hold_items(Items(pictures, pictures, 1))
    assert [held[i][1].tolist() for i in range(4)] == [pictures[i][1].tolist() for i in range(4)]


def test_items_that_change_are_seen() -> None:
    class Turned(Pictures):
        def __getitem__(self, index: int) -> Any:
            times = int(torch.randint(4, ()))
            return np.rot90(self.pixels[index], times).copy(), times

    class Noted(Pictures):
        def __getitem__(self, index: int) -> Any:
            return self.transform(self.pixels[index]), {"seed": torch.rand(2)}

    assert not changes_when_read_again(Items(Pictures(), Pictures(), 1))
    assert changes_when_read_again(Items(Turned(), Turned(), 0))
    assert changes_when_read_again(Items(Noted(), Noted(), 0))


def test_who_applies_its_transform() -> None:
    class AtFirst(Pictures):
        """As torchvision's, which keep the transform in `transforms` once and for all."""

        def __init__(self) -> None:
            super().__init__()
            self.transforms = self.transform

        def __getitem__(self, index: int) -> Any:
            return index, self.transforms(self.pixels[index])

    pictures, at_first = Pictures(), AtFirst()
    assert applies_transform(Subset(pictures, [2, 1]), pictures)
    assert not applies_transform(at_first, at_first)


def test_what_is_no_image_is_told() -> None:
    pictures = Pictures()
    with pytest.raises(RelaZooError, match=r"no image in its place[\s\S]*got: +str[\s\S]*rela\.views_on=workers"):
        RawItems(pictures, pictures, 2).raw_batch([0], 0, 0, 0)


def test_workers_hand_over_whole_batches() -> None:
    class Whole(RawItems):
        def __getitems__(self, indices: list[int]) -> Any:
            return self.raw_batch(indices, 0, 0, 0)

    pictures = Pictures()
    pictures.transform = None  # a lambda can't be pickled, where workers are spawned
    items = Whole(pictures, pictures, 1)
    loader = DataLoader(items, batch_size=2, num_workers=1, collate_fn=CollateUnlessReady(None))
    batches = list(loader)
    assert [batch[3].tolist() for batch in batches] == [[0, 10], [20, 30]]
    assert isinstance(batches[0][1], RawBatch)
    _same(batches[0][1], pictures, [0, 1])


def test_the_place_of_the_image_is_found() -> None:
    pictures = Pictures()
    assert find_image(pictures, pictures) == 1
    assert find_image(Subset(pictures, [2]), pictures) == 1
    held = hold_items(Items(pictures, pictures, 1))
    assert isinstance(held, HeldItems)
    assert find_image(held, held) == 1


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (lambda transform, image: transform(image), "no sequence"),
        (lambda transform, image: {"image": transform(image)}, "no sequence"),
        (lambda transform, image: ([transform(image)], 0), "no sequence"),
        (lambda transform, image: (transform(torch.zeros(3, 8, 8)), 0), "Tensor"),
        (lambda transform, image: (image, 0), "nothing"),
        (lambda transform, image: (transform(image), transform(image)), "is given"),
    ],
)
def test_items_that_cannot_be_left_to_the_device(item: Any, reason: str) -> None:
    class Others(Pictures):
        def __getitem__(self, index: int) -> Any:
            return item(self.transform, Image.fromarray(self.pixels[index]))

    others = Others()
    with pytest.raises(UnreadableViewsError, match=reason):
        find_image(others, others)
