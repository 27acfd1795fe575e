"""Images decoded by loader workers: a batch is one tensor, of uint8 wherever the rest can be done on the device."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rela_zoo.data import ImageSource, content_digest
from rela_zoo.embeddings._sizes import start_method
from rela_zoo.errors import EmbeddingsError

_UNREADABLE = bytes(8)  # in the place of a digest, as `digest_of` gives it


class Batch(NamedTuple):
    """Images as a worker hands them over.

    Attributes:
        asked: positions in the source.
        positions: those of them that `pixels` holds.
        pixels: (B, 3, H, W), uint8, or floating and normalised where a transform can't be split; None without images.
        errors: what is wrong with the others, by position; values, for the main process to judge.
        digests: `content_digest` of each image asked for; empty where nobody asks.
        seconds: spent on reading and decoding, and on the transform.
    """

    asked: list[int]
    positions: list[int]
    pixels: Tensor | None
    errors: dict[int, EmbeddingsError]
    digests: list[bytes]
    seconds: tuple[float, float]


class _Batches(torch.utils.data.Dataset[Batch]):
    """Positions → their batch."""

    def __init__(self, source: ImageSource, transform: Any, digests: bool) -> None:
        self._source, self._digests = source, digests
        self._prepare = transform.pixels if can_be_split(transform) else transform

    def __getitem__(self, asked: list[int]) -> Batch:
        good: list[int] = []
        images: list[Tensor] = []
        errors: dict[int, EmbeddingsError] = {}
        digests: list[bytes] = []
        decoding = preparing = 0.0
        for position in asked:
            started = time.perf_counter()
            digest = _UNREADABLE
            try:
                raw = self._source.raw(position)
                digest = content_digest(raw) if self._digests else digest
                image = self._source.image_of(raw, position)
            except EmbeddingsError as error:
                errors[position] = error
                continue
            finally:
                digests.append(digest)
            decoded = time.perf_counter()
            images.append(self._prepare(image))
            good.append(position)
            decoding += decoded - started
            preparing += time.perf_counter() - decoded
        started = time.perf_counter()
        pixels = None
        try:
            pixels = _stacked(images)
        except EmbeddingsError as error:
            errors[good[0]] = error
        preparing += time.perf_counter() - started
        return Batch(asked, good, pixels, errors, digests if self._digests else [], (decoding, preparing))


def can_be_split(transform: Any) -> bool:
    """Whether a transform is `pixels`, to uint8, and then `normalise`, of whole batches on any device."""
    return hasattr(transform, "pixels") and hasattr(transform, "normalise")


def image_loader(
    source: ImageSource,
    transform: Any,
    batches: Sequence[list[int]],
    num_workers: int,
    *,
    digests: bool,
    pinned: bool = False,
) -> torch.utils.data.DataLoader[Batch]:
    """A loader of these batches, in this order.

    Args:
        source: the images.
        transform: of the prior.
        batches: positions in the source.
        num_workers: processes that decode; 0 decodes in this one.
        digests: whether digests of the images are asked for.
        pinned: whether pixels lie in pinned memory, from which CUDA copies beside computing.
    """
    workers = min(num_workers, len(batches))
    return torch.utils.data.DataLoader(
        _Batches(source, transform, digests),
        batch_size=None,
        sampler=batches,
        num_workers=workers,
        multiprocessing_context=start_method() if workers else None,
        collate_fn=_as_it_is,
        pin_memory=pinned,
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
