"""Batches through a prior: copied to the device, made ready there, embedded; rows come back without a wait a batch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from rela_zoo.embeddings._compiled import Compiled
from rela_zoo.embeddings._loading import Batch, Pixels
from rela_zoo.embeddings._transforms import can_be_split

if TYPE_CHECKING:
    from rela_zoo.prior import Prior

_REPEATS, _LONG_ENOUGH = 3, 2.0  # of measuring the model alone; seconds


class Arrived(NamedTuple):
    """Rows of a batch on the CPU.

    Attributes:
        rows: (B, D) float32.
        copy, model: seconds that copies, both ways, and what the device did took: resizing, normalising, embedding.
    """

    rows: Tensor
    copy: float
    model: float


@dataclass
class Started:
    """A batch that the device works on.

    Attributes:
        batch: whose.
        images: what the model was given, on the device.
    """

    batch: Batch
    images: Tensor
    _rows: Tensor
    _seconds: float = 0.0
    _events: tuple[Any, ...] = ()
    _compiling: float = 0.0

    def wait(self) -> Arrived:
        """The rows, when the device is done with them."""
        if not self._events:
            return Arrived(self._rows, 0.0, self._seconds)
        sent, copied, begun, done, back = self._events
        back.synchronize()
        copy = sent.elapsed_time(copied) + done.elapsed_time(back)
        return Arrived(self._rows, copy / 1e3, begun.elapsed_time(done) / 1e3 - self._compiling)


class Forward:
    """A prior on a device.

    On CUDA everything is queued: a batch is copied, by a stream of its own, while the one before is computed, and its
    rows are copied back into pinned memory. So whoever keeps `late` batches waiting keeps the device busy.

    Args:
        prior: already there.
        device: where it is.
        lower: the dtype of autocast; None computes in float32.
        compiled: embeds in the prior's place; None for the prior as it is.

    Attributes:
        late: how many batches to start before the first one's rows are waited for.
    """

    def __init__(
        self,
        prior: Prior,
        device: torch.device,
        lower: torch.dtype | None = None,
        compiled: Compiled | None = None,
    ) -> None:
        self._prior, self._device, self._lower, self._compiled = prior, device, lower, compiled
        self._split = can_be_split(prior.transform)
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.late = 1 if self._copies is not None else 0

    @torch.inference_mode()
    def start(self, batch: Batch) -> Started:
        """Have the rows of a batch made; it has at least one image."""
        if self._copies is not None:
            return self._start_cuda(batch)
        begun, compiling = time.perf_counter(), self._compiling
        images = self._normalised([one.to(self._device) for one in batch.pixels])
        rows = self._embedded(images).float().cpu()
        return Started(batch, images, rows, time.perf_counter() - begun - (self._compiling - compiling))

    def _start_cuda(self, batch: Batch) -> Started:
        sent, copied, begun, done, back = (torch.cuda.Event(enable_timing=True) for _ in range(5))
        current = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._copies):
            sent.record(self._copies)
            there = [one.to(self._device) for one in batch.pixels]
            copied.record(self._copies)
        current.wait_event(copied)
        for tensor in (tensor for one in there for tensor in one.tensors()):
            tensor.record_stream(current)  # its memory is not to be used again before the model has read it
        begun.record(current)
        compiling = self._compiling
        images = self._normalised(there)
        rows = self._embedded(images).float()
        done.record(current)
        arrived = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
        arrived.copy_(rows, non_blocking=True)
        back.record(current)
        return Started(
            batch, images, arrived, _events=(sent, copied, begun, done, back), _compiling=self._compiling - compiling
        )

    @torch.inference_mode()
    def limit(self, images: Tensor) -> float:
        """Images a second of the model alone, on images (B, 3, H, W) that are on the device already."""
        best, spent = float("inf"), 0.0
        for _ in range(_REPEATS):
            self._synchronise()
            begun = time.perf_counter()
            self._embedded(images)
            self._synchronise()
            took = time.perf_counter() - begun
            best, spent = min(best, took), spent + took
            if spent > _LONG_ENOUGH:
                break
        return len(images) / max(best, 1e-9)

    def _normalised(self, parts: list[Pixels]) -> Tensor:
        transform: Any = self._prior.transform
        ready = [one.resized(transform) for one in parts]
        pixels = ready[0] if len(ready) == 1 else torch.cat(ready)
        return transform.normalise(pixels) if self._split else pixels

    def _embedded(self, images: Tensor) -> Tensor:
        with torch.autocast(self._device.type, dtype=self._lower, enabled=self._lower is not None):
            rows: Tensor = self._prior(images) if self._compiled is None else self._compiled(self._prior, images)
        return rows

    @property
    def _compiling(self) -> float:
        """Seconds that compiling has taken so far."""
        return 0.0 if self._compiled is None else self._compiled.seconds

    def _synchronise(self) -> None:
        if self._copies is not None:
            torch.cuda.synchronize(self._device)


@contextmanager
def on_device(
    prior: Prior, device: torch.device, lower: torch.dtype | None = None, compiled: Compiled | None = None
) -> Iterator[Forward]:
    """The prior on `device`, in evaluation mode, computing in `lower`; put back afterwards."""
    parameter = next(prior.parameters(), None)
    before = parameter.device if parameter is not None else torch.device("cpu")
    training, precision = prior.training, getattr(prior, "computes_in", None)
    prior.to(device).eval()
    if hasattr(prior, "computes_in"):
        prior.computes_in = lower
    try:
        yield Forward(prior, device, lower, compiled)
    finally:
        prior.to(before).train(training)
        if hasattr(prior, "computes_in"):
            prior.computes_in = precision
