"""Images decoded by loader workers and handed over in few tensors, of uint8 wherever the device can do the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rela_zoo._io.device import to_device
from rela_zoo.data import ImageSource, content_digest
from rela_zoo.data.resize import MOST_PIXELS
from rela_zoo.embeddings._ring import Ring, Written
from rela_zoo.embeddings._sizes import PREFETCH, start_method
from rela_zoo.embeddings._transforms import can_be_split, can_resize_whole
from rela_zoo.errors import EmbeddingsError

_UNREADABLE = bytes(8)  # in the place of a digest, as `digest_of` gives it


@dataclass
class Pixels:
    """Images, in order, some of them ready for the model but for normalising, some as large as they were decoded.

    Attributes:
        ready: (n, 3, S, S), uint8, or floating and normalised where a transform can't be split; None if there are none.
        whole: flat uint8, the (H, W, 3) of each of the others, one after the other, or where a worker has written them;
            None if there are none.
        shapes: (H, W) of each image that is in `whole`; None for each in `ready`.
    """

    ready: Tensor | None
    whole: Tensor | Written | None
    shapes: list[tuple[int, int] | None]

    def tensors(self) -> list[Tensor]:
        """Whatever there is."""
        return [one for one in (self.ready, self.whole) if isinstance(one, Tensor)]

    def _each(self, change: Callable[[Tensor], Tensor]) -> Pixels:
        assert not isinstance(self.whole, Written)
        ready, whole = (None if one is None else change(one) for one in (self.ready, self.whole))
        return Pixels(ready, whole, self.shapes)

    def to(self, device: torch.device) -> Pixels:
        """The same there; without a wait if it is in pinned memory."""
        return self._each(lambda one: one.to(device, non_blocking=True))

    def pin_memory(self) -> Pixels:
        """The same in pinned memory; called by the loader's thread for it, before a worker is asked for more."""
        if not isinstance(self.whole, Written):
            return self._each(Tensor.pin_memory)
        ready = None if self.ready is None else self.ready.pin_memory()
        return Pixels(ready, self.whole.read().pin_memory(), self.shapes)

    def resized(self, transform: Any) -> Tensor:
        """(B, 3, S, S): all of them ready, on the device where they are."""
        if self.whole is None:
            assert self.ready is not None
            return self.ready
        assert isinstance(self.whole, Tensor)
        # Those of one size at once, and then into their order.
        places: dict[tuple[int, int], list[int]] = {}
        for place, shape in enumerate(self.shapes):
            if shape is not None:
                places.setdefault(shape, []).append(place)
        flat = iter(self.whole.split([3 * h * w for h, w in filter(None, self.shapes)]))
        images = {place: next(flat) for place, shape in enumerate(self.shapes) if shape is not None}
        made = [
            transform.resized(torch.stack([images[place].view(*shape, 3) for place in those]))
            for shape, those in places.items()
        ]
        order = [place for those in places.values() for place in those]
        if self.ready is not None:
            made.append(self.ready)
            order += [place for place, shape in enumerate(self.shapes) if shape is None]
        if len(made) == 1:
            only: Tensor = made[0]
            return only
        return torch.cat(made)[to_device(torch.tensor(order).argsort(), self.whole.device)]


class Batch(NamedTuple):
    """Images as workers hand them over.

    Attributes:
        asked: positions in the source.
        positions: those of them that `pixels` holds.
        pixels: the images, in parts; empty without images.
        errors: what is wrong with the others, by position; values, for the main process to judge.
        digests: `content_digest` of each image asked for; empty where nobody asks.
        seconds: spent on reading and decoding, and on the transform.
    """

    asked: list[int]
    positions: list[int]
    pixels: list[Pixels]
    errors: dict[int, EmbeddingsError]
    digests: list[bytes]
    seconds: tuple[float, float]


def joined(pieces: Sequence[Batch]) -> Batch:
    """Pieces of one batch, in order."""
    if len(pieces) == 1:
        return pieces[0]
    errors: dict[int, EmbeddingsError] = {}
    for piece in pieces:
        errors |= piece.errors
    asked, positions, pixels, digests = (
        [one for piece in pieces for one in getattr(piece, name)]
        for name in ("asked", "positions", "pixels", "digests")
    )
    decoding, preparing = (sum(piece.seconds[i] for piece in pieces) for i in (0, 1))
    return Batch(asked, positions, pixels, errors, digests, (decoding, preparing))


def _never(height: int, width: int) -> bool:
    return False


class _Batches(torch.utils.data.Dataset[Batch]):
    """(Number of a batch, positions) → that batch."""

    def __init__(
        self, source: ImageSource, transform: Any, digests: bool, whole: bool = False, ring: Ring | None = None
    ) -> None:
        self._source, self._digests, self._ring = source, digests, ring
        self._prepare = transform.pixels if can_be_split(transform) else transform
        self._whole = transform.leaves_whole if whole and can_resize_whole(transform) else _never

    def __getitem__(self, which: tuple[int, list[int]]) -> Batch:
        number, asked = which
        good: list[int] = []
        ready: list[Tensor] = []
        whole: list[np.ndarray] = []
        shapes: list[tuple[int, int] | None] = []
        errors: dict[int, EmbeddingsError] = {}
        digests: list[bytes] = []
        decoding = preparing = 0.0
        for position in asked:
            started = time.perf_counter()
            digest = _UNREADABLE
            try:
                raw = self._source.raw(position)
                digest = content_digest(raw) if self._digests else digest
                image = self._source.pixels_of(raw, position, self._whole)
            except EmbeddingsError as error:
                errors[position] = error
                continue
            finally:
                digests.append(digest)
            decoded = time.perf_counter()
            if isinstance(image, np.ndarray):
                whole.append(image)
                shapes.append((image.shape[0], image.shape[1]))
            else:
                ready.append(self._prepare(image))
                shapes.append(None)
            good.append(position)
            decoding += decoded - started
            preparing += time.perf_counter() - decoded
        started = time.perf_counter()
        pixels = []
        try:
            if good:
                pixels = [Pixels(_stacked(ready), self._handed_over(whole, number), shapes)]
        except EmbeddingsError as error:
            errors[good[0]] = error
        preparing += time.perf_counter() - started
        return Batch(asked, good, pixels, errors, digests if self._digests else [], (decoding, preparing))

    def _handed_over(self, images: list[np.ndarray], number: int) -> Tensor | Written | None:
        if not images:
            return None
        if self._ring is not None and torch.utils.data.get_worker_info() is not None:
            return self._ring.write(number % len(self._ring), images)
        return torch.from_numpy(np.concatenate([image.reshape(-1) for image in images]))


def image_loader(
    source: ImageSource,
    transform: Any,
    batches: Sequence[list[int]],
    num_workers: int,
    *,
    digests: bool,
    on_gpu: bool = False,
) -> torch.utils.data.DataLoader[Batch]:
    """A loader of these batches, in this order.

    Args:
        source: the images.
        transform: of the prior.
        batches: positions in the source.
        num_workers: processes that decode; 0 decodes in this one.
        digests: whether digests of the images are asked for.
        on_gpu: whether pixels go to a GPU: they lie in pinned memory, from which it copies beside computing, and are
            handed over whole where it can resize them.
    """
    workers = min(num_workers, len(batches))
    method = start_method() if workers else None
    ring = None
    if on_gpu and method == "fork" and can_resize_whole(transform):
        with suppress(OSError):  # where the system promises no more memory than it has; tensors are handed over then
            # One more than there are batches on their way: a place is read before the loader asks for the next batch.
            ring = Ring(PREFETCH * workers + 1, max(map(len, batches)) * 3 * MOST_PIXELS)
    return torch.utils.data.DataLoader(
        _Batches(source, transform, digests, on_gpu, ring),
        batch_size=None,
        sampler=list(enumerate(batches)),
        num_workers=workers,
        prefetch_factor=PREFETCH if workers else None,
        multiprocessing_context=method,
        collate_fn=_as_it_is,
        pin_memory=on_gpu,
        # A generator of its own: the loader would otherwise draw a seed from the global one, and computing missing
        # embeddings at the start of a training would change that training.
        generator=torch.Generator(),
    )


def _as_it_is(batch: Any) -> Any:
    return batch


def _stacked(images: list[Tensor]) -> Tensor | None:
    """Images (3, H, W) → (B, 3, H, W).

    Raises:
        EmbeddingsError: different shapes.
    """
    shapes = {tuple(one.shape) for one in images}
    if len(shapes) > 1:
        raise EmbeddingsError(
            "the prior's transform gives images of different shapes, which can't share a batch",
            expected="one shape (3, H, W)",
            got=", ".join(map(str, sorted(shapes)[:3])),
            fix="end the transform with a crop or a resize to a fixed size",
        )
    return torch.stack(images) if images else None
