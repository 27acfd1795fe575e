"""Images decoded once and held in memory, as uint8."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rela_zoo._io.progress import Progress
from rela_zoo.data._source import ImageSource
from rela_zoo.data.packed import pack, unpack
from rela_zoo.errors import RelaZooError

_BLOCK = 256 * 1024 * 1024  # bytes; so that memory grows with the images, and no copy of all of them is made
_CHUNK = 64  # images that a worker hands over at once


class DecodedImages:
    """N images of any sizes, in a few blocks of shared memory, so that workers need no copy.

    Args:
        blocks: uint8, flat; the images' pixels (H, W, 3) lie one after another, none across two blocks.
        sizes: (N, 2), heights and widths.
    """

    def __init__(self, blocks: Sequence[Tensor], sizes: np.ndarray) -> None:
        self._blocks, self.sizes = list(blocks), sizes
        lengths, place = sizes.astype(np.int64).prod(1) * 3, 0
        self._places: list[tuple[int, int]] = []  # block, and offset in it
        block = 0
        for length in lengths.tolist():
            if place + length > len(self._blocks[block]):
                block, place = block + 1, 0
            self._places.append((block, place))
            place += length

    def __len__(self) -> int:
        return len(self._places)

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return sum(len(block) for block in self._blocks)

    def pixels(self, index: int) -> Tensor:
        """One image, (H, W, 3) uint8; not a copy."""
        block, place = self._places[index]
        height, width = self.sizes[index].tolist()
        return self._blocks[block][place : place + height * width * 3].view(height, width, 3)

    def image(self, index: int) -> Image.Image:
        """One image as it was decoded, RGB."""
        return Image.fromarray(self.pixels(index).numpy())

    @property
    def of_one_size(self) -> bool:
        """Whether all images have the same height and width."""
        return bool((self.sizes == self.sizes[:1]).all())

    def stacked(self, key: str) -> Tensor:
        """All images as (N, 3, H, W) uint8, channels last; not a copy unless there are several blocks.

        Args:
            key: of the configuration that asks for it, for the message.

        Raises:
            RelaZooError: if their sizes differ.
        """
        first = self.sizes[0]
        if (odd := np.flatnonzero((self.sizes != first).any(1))).size:
            (height, width), (other, another) = first.tolist(), self.sizes[odd[0]].tolist()
            raise RelaZooError(
                "the images can't be held on the device in one piece",
                expected="images of one size",
                got=f"{height} × {width} pixels, and {other} × {another} (image {odd[0]})",
                fix=f"set {key}=memory, or resize the images beforehand",
            )
        whole = self._blocks[0] if len(self._blocks) == 1 else torch.cat(self._blocks)
        return whole.view(len(self), *first.tolist(), 3).permute(0, 3, 1, 2)


class HeldSource(ImageSource):
    """A source whose images come from memory; in all else it is the other.

    Args:
        source: whose ids, labels and bytes these are.
        held: its images.
    """

    encoded = False

    def __init__(self, source: ImageSource, held: DecodedImages) -> None:
        self._source, self._held = source, held
        self.left_out = source.left_out

    @property
    def ids(self) -> Sequence[str]:
        return self._source.ids

    @property
    def labels(self) -> Sequence[int] | None:
        return self._source.labels

    @property
    def classes(self) -> Sequence[str]:
        return self._source.classes

    def raw(self, index: int) -> bytes:
        return self._source.raw(index)

    def describe(self) -> str:
        return self._source.describe()

    def __len__(self) -> int:
        return len(self._held)

    def image(self, index: int) -> Image.Image:
        return self._held.image(index)


class _Pixels(Dataset[Tensor]):
    def __init__(self, source: ImageSource) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(np.array(self._source.image(index)))


def decode_images(source: ImageSource, *, num_workers: int = 0) -> DecodedImages:
    """Decode all images of a source.

    Args:
        source: of the images.
        num_workers: processes that decode; 0 decodes in this one.

    Raises:
        UndecodableImageError: one of them is no picture; the message names it.
    """
    loader = DataLoader(
        _Pixels(source),
        batch_size=_CHUNK,
        num_workers=num_workers,
        collate_fn=pack,
        # A generator of its own: a training that holds its images is the same training.
        generator=torch.Generator(),
    )
    return hold(map(unpack, loader), len(source), copied=num_workers > 0)


def hold(chunks: Iterable[Sequence[Tensor]], count: int, *, copied: bool) -> DecodedImages:
    """Keep images in shared memory.

    Args:
        chunks: of the images, (H, W, 3) uint8 each.
        count: of all of them, for the bar.
        copied: whether to copy each at once: what a worker hands over lies in shared memory, of which a process may not
            have many pieces.
    """
    sizes: list[tuple[int, int]] = []
    blocks: list[Tensor] = []
    waiting: list[Tensor] = []
    waiting_bytes = 0

    def close() -> None:
        nonlocal waiting, waiting_bytes
        if waiting:
            blocks.append(torch.cat([one.reshape(-1) for one in waiting]).share_memory_())
        waiting, waiting_bytes = [], 0

    with Progress("decoding images", count, unit="images") as progress:
        for chunk in chunks:
            for one in chunk:
                if waiting_bytes + one.numel() > _BLOCK:
                    close()
                waiting.append(one.clone() if copied else one)
                waiting_bytes += one.numel()
                sizes.append((int(one.shape[0]), int(one.shape[1])))
            progress.advance(len(chunk))
    close()
    return DecodedImages(blocks, np.array(sizes, np.int64).reshape(-1, 2))
