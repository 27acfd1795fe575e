"""Images held in memory are the images."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from rela_zoo.data import ImageSource
from rela_zoo.data import decoded as module
from rela_zoo.data.decoded import DecodedImages, HeldSource, decode_images
from rela_zoo.errors import RelaZooError


class Pictures(ImageSource):
    """Noise of given sizes."""

    def __init__(self, sizes: list[tuple[int, int]]) -> None:
        generator = np.random.default_rng(0)
        self.arrays = [generator.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]

    @property
    def ids(self) -> list[str]:
        return [f"{i}" for i in range(len(self.arrays))]

    @property
    def labels(self) -> list[int]:
        return [i % 2 for i in range(len(self.arrays))]

    @property
    def classes(self) -> list[str]:
        return ["even", "odd"]

    def raw(self, index: int) -> bytes:
        return self.arrays[index].tobytes()

    def describe(self) -> str:
        return "noise"

    def image(self, index: int) -> Image.Image:
        return Image.fromarray(self.arrays[index])


MIXED = [(8, 8), (5, 9), (1, 1), (8, 8), (12, 3), (7, 7), (2, 20)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("block", [200, 10**6])
def test_images_are_kept_as_they_are(monkeypatch: pytest.MonkeyPatch, workers: int, block: int) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    monkeypatch.setattr(module, "_CHUNK", 3)
    pictures = Pictures(MIXED)
    held = decode_images(pictures, num_workers=workers)
    assert (len(held), held.nbytes) == (7, sum(one.size for one in pictures.arrays))
    for found in (held, pickle.loads(pickle.dumps(held))):
        for i, array in enumerate(pictures.arrays):
            assert np.array_equal(np.asarray(found.image(i)), array)
            assert np.array_equal(found.pixels(i).numpy(), array)


def test_a_held_source_is_the_source() -> None:
    source = Pictures(MIXED)
    held = HeldSource(source, decode_images(source))
    for attribute in ("ids", "labels", "classes", "left_out"):
        assert getattr(held, attribute) == getattr(source, attribute)
    assert (len(held), held.describe(), held.raw(2), held.probe()) == (7, "noise", source.raw(2), source.probe())
    source.arrays[3] = source.arrays[3] * 0
    assert np.asarray(held.image(3)).any(), "images come from memory"


def test_decoding_draws_no_chance() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    decode_images(Pictures(MIXED))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("block", [400, 10**6])
def test_images_of_one_size_stack(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    pictures = Pictures([(8, 8)] * 5)
    stacked = decode_images(pictures).stacked("data.cache")
    assert stacked.shape == (5, 3, 8, 8)
    assert np.array_equal(stacked.permute(0, 2, 3, 1).numpy(), np.stack(pictures.arrays))


def test_images_of_several_sizes_do_not() -> None:
    with pytest.raises(RelaZooError, match=r"8 × 8 pixels, and 5 × 9 \(image 1\)"):
        decode_images(Pictures(MIXED)).stacked("data.cache")


def test_an_image_larger_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 100)
    held = decode_images(Pictures([(2, 2), (10, 10), (3, 3)]))
    assert isinstance(held, DecodedImages)
    assert [held.image(i).size for i in range(3)] == [(2, 2), (10, 10), (3, 3)]
