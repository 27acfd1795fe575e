"""Batches of images through a prior: loaded by workers, sorted out, embedded, checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rela_zoo.data import ImageSource, UndecodableImageError
from rela_zoo.data.packed import Packed, pack, unpack
from rela_zoo.embeddings._format import EmbedPlan
from rela_zoo.embeddings._pictures import digest_of
from rela_zoo.errors import EmbeddingsError

if TYPE_CHECKING:
    from rela_zoo.prior import Prior

_LARGEST_FLOAT16 = 65504.0

# One image of a batch as a worker hands it over: its position in the source, pixels or an error, and the digest of its
# bytes as they are kept (none where nobody asks).
Item = tuple[int, Tensor | EmbeddingsError, bytes]


def sort_out(batch: Sequence[Item], on_error: str) -> tuple[list[tuple[int, Tensor]], list[int]]:
    """The images of a batch with their positions, and the positions of those that may be left out.

    Raises:
        EmbeddingsError: one can't be decoded, and leaving out was not asked for.
    """
    good, bad = [], []
    for position, item, _ in batch:
        if isinstance(item, Tensor):
            good.append((position, item))
        elif on_error == "skip" and isinstance(item, UndecodableImageError):
            bad.append(position)
        else:
            raise item
    return good, bad


def stack(images: list[Tensor]) -> Tensor:
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
    return torch.stack(images)


@torch.inference_mode()
def embed_batch(prior: Prior, images: Tensor, plan: EmbedPlan, ids: Sequence[str]) -> np.ndarray:
    """Images (B, 3, H, W) with their ids → checked rows (B, D) in the dtype of the artefact."""
    with torch.autocast(images.device.type, enabled=False):
        rows = prior(images).float().cpu()
    if rows.shape != (len(images), plan.dim):
        raise EmbeddingsError(
            "the prior gives rows of another shape than it says",
            expected=(len(images), plan.dim),
            got=tuple(rows.shape),
            fix="correct `dim` or the layer in its registry entry",
        )
    finite = torch.isfinite(rows).all(1)
    if not finite.all():
        first = ids[int((~finite).nonzero()[0])]
        raise EmbeddingsError(
            f"the prior gives NaN or infinity for {int((~finite).sum())} of {len(rows)} images of a batch",
            expected="finite numbers",
            got=f"first for {first!r}",
            fix="check the weights and the preprocessing of the prior; on a GPU, try --device cpu",
        )
    if plan.dtype == "float16" and rows.abs().max() > _LARGEST_FLOAT16:
        row = int(rows.abs().amax(1).argmax())
        raise EmbeddingsError(
            "an output of the prior is too large for float16",
            expected=f"magnitudes up to {_LARGEST_FLOAT16:.0f}",
            got=f"{float(rows[row].abs().max()):.6g} for {ids[row]!r}",
            fix="store float32: --dtype float32, in a new folder",
        )
    return rows.numpy().astype(plan.dtype)


class _Images(torch.utils.data.Dataset[Item]):
    """Position → (position, pixels or error); errors travel as values, for the main process to judge."""

    def __init__(self, source: ImageSource, transform: Any, digests: bool) -> None:
        self._source, self._transform, self._digests = source, transform, digests

    def __getitem__(self, position: int) -> Item:
        digest = digest_of(self._source, position) if self._digests else b""
        try:
            image = self._source.image(position)
        except EmbeddingsError as error:
            return position, error, digest
        return position, self._transform(image), digest


class Batch(NamedTuple):
    """Images as a worker hands them over: all pixels in one tensor, and in their places None in `items`."""

    items: list[tuple[int, EmbeddingsError | None, bytes]]
    pixels: Packed


def _packed(items: list[Item]) -> Batch:
    pixels = [item for _, item, _ in items if isinstance(item, Tensor)]
    rest = [(position, None if isinstance(item, Tensor) else item, digest) for position, item, digest in items]
    return Batch(rest, pack(pixels))


def items_of(batch: Batch) -> list[Item]:
    """The images of a batch one by one."""
    pixels = iter(unpack(batch.pixels))
    return [(position, next(pixels) if error is None else error, digest) for position, error, digest in batch.items]


def image_loader(
    source: ImageSource, transform: Any, batches: list[list[int]], num_workers: int, *, digests: bool
) -> torch.utils.data.DataLoader[Any]:
    return torch.utils.data.DataLoader(
        _Images(source, transform, digests),
        batch_sampler=batches,
        num_workers=min(num_workers, len(batches)),
        collate_fn=_packed,
        # A generator of its own: the loader would otherwise draw a seed from the global one, and computing missing
        # embeddings at the start of a training would change that training.
        generator=torch.Generator(),
    )


@contextmanager
def on_device(prior: Prior, device: torch.device) -> Iterator[None]:
    """The prior on `device`, in evaluation mode; put back afterwards."""
    parameter = next(prior.parameters(), None)
    before = parameter.device if parameter is not None else torch.device("cpu")
    training = prior.training
    prior.to(device).eval()
    try:
        yield
    finally:
        prior.to(before).train(training)
