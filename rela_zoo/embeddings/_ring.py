"""Memory that loader workers write images into, and this process reads, place after place and round again.

What is handed over in tensors lies in fresh shared memory each time, which the kernel zeroes page by page, and maps
anew on both sides: of an image of 500 × 375 that takes as long as half of its decoding.
"""

from __future__ import annotations

import itertools
import mmap
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

_numbers = itertools.count()
_rings: WeakValueDictionary[int, Ring] = WeakValueDictionary()


class Ring:
    """Places in memory shared with processes that are forked after it has been made.

    Args:
        places: how many.
        size: of each, in bytes; pages that nobody writes to take no memory.

    Attributes:
        number: by which `read` knows it.
    """

    def __init__(self, places: int, size: int) -> None:
        self.number = next(_numbers)
        self._places = np.frombuffer(mmap.mmap(-1, places * size), np.uint8).reshape(places, size)
        _rings[self.number] = self

    def __len__(self) -> int:
        return len(self._places)

    def write(self, place: int, images: list[np.ndarray]) -> Written:
        """Images, one after the other, into a place that is large enough."""
        space, at = self._places[place], 0
        for image in images:
            space[at : at + image.size].reshape(image.shape)[...] = image
            at += image.size
        return Written(self.number, place, at)

    def __getitem__(self, place: int) -> np.ndarray:
        return self._places[place]


class Written:
    """Where a worker has written, as it tells the process that reads.

    Args:
        ring, place, size: of what it has written, in bytes.
    """

    def __init__(self, ring: int, place: int, size: int) -> None:
        self._ring, self._place, self._size = ring, place, size

    def read(self) -> Tensor:
        """What is there, flat uint8; to be copied, for the place will be written to again."""
        return torch.from_numpy(_rings[self._ring][self._place][: self._size])
