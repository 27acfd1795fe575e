"""Shards of an artefact, each of which can be made by itself: images loaded, embedded, checked, written."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rela_zoo._io.progress import Progress
from rela_zoo.data import ImageSource, UndecodableImageError
from rela_zoo.embeddings._compiled import Compiled
from rela_zoo.embeddings._format import EmbedPlan
from rela_zoo.embeddings._forward import Forward, Started, on_device
from rela_zoo.embeddings._loading import Batch, image_loader, joined
from rela_zoo.embeddings._precision import PRECISIONS, Precision
from rela_zoo.embeddings._profile import Profile
from rela_zoo.embeddings._sizes import PIECE, choose_workers
from rela_zoo.embeddings._store import FinishedShard
from rela_zoo.embeddings._writer import ShardWriter
from rela_zoo.errors import EmbeddingsError

if TYPE_CHECKING:
    from rela_zoo.prior import Prior

_LARGEST_FLOAT16 = 65504.0
# Batches from which on the model is timed for the bar: up to three of them are computed in vain.
_WORTH_MEASURING = 64


@dataclass
class Run:
    """How an extraction is run; nothing here changes its bytes beyond the rounding of the device.

    Attributes:
        device: where the prior runs.
        batch_size: images at once on it.
        num_workers: processes that decode images; None chooses.
        on_error, progress, precision: as for `embed`.
        compiled: embeds in the prior's place; None for the prior as it is.
        profile: takes the measurements; `measure`: also of the model alone, however short the run.
    """

    device: torch.device
    batch_size: int
    num_workers: int | None
    on_error: Literal["raise", "skip"]
    progress: bool | Literal["always"]
    precision: Precision = "32"
    compiled: Compiled | None = None
    profile: Profile = field(default_factory=Profile)
    measure: bool = False


class Made(NamedTuple):
    """Shards by number, and the digests of their images by position, where they were asked for."""

    shards: dict[int, FinishedShard]
    digests: dict[int, bytes]


def shard_range(plan: EmbedPlan, number: int) -> range:
    """Positions in the source of the images of one shard."""
    start = number * plan.source.shard_rows
    return range(start, min(start + plan.source.shard_rows, plan.source.rows))


def make_shards(
    prior: Prior,
    source: ImageSource,
    plan: EmbedPlan,
    out: Path,
    numbers: Sequence[int],
    run: Run,
    *,
    digests: bool = False,
    done: int = 0,
) -> Made:
    """Make some shards of an artefact. What is finished when it is stopped, is written.

    Args:
        prior, source, plan: what is made.
        out: the folder, with the plan in it.
        numbers: of the shards.
        run: how.
        digests: whether digests of the images are wanted.
        done: images embedded earlier, for the bar.

    Raises:
        EmbeddingsError: an image can't be decoded, rows can't be stored, a shard can't be written.
    """
    step = run.batch_size
    batches = [
        list(images[first : first + step])
        for images in (shard_range(plan, number) for number in numbers)
        for first in range(0, len(images), step)
    ]
    images = sum(map(len, batches))
    on_gpu = run.device.type == "cuda"
    # A GPU's batches are large, and what a worker makes of one at a time small: it comes sooner, and takes less memory.
    piece = min(step, PIECE) if on_gpu else step
    pieces = [[batch[first : first + piece] for first in range(0, len(batch), piece)] for batch in batches]
    handed_over = [part for parts in pieces for part in parts]
    workers = run.num_workers
    if workers is None:
        workers = choose_workers(run.device, source, prior.transform, piece, len(handed_over))
    profile = run.profile
    profile.num_workers, profile.batch_size = min(workers, len(handed_over)), step
    profile.device, profile.precision = str(run.device), run.precision
    begun = time.perf_counter()
    loader = iter(image_loader(source, prior.transform, handed_over, workers, digests=digests, on_gpu=on_gpu))
    with (
        on_device(prior, run.device, PRECISIONS[run.precision], run.compiled) as forward,
        Progress("embedding", done + images, done=done, unit="images", show=run.progress) as bar,
        ShardWriter(out, plan) as writer,
    ):
        line = _Line(forward, _Assembly(source, plan, numbers, writer, run), bar)
        measure = run.measure or (bar.watched and len(batches) >= _WORTH_MEASURING)
        try:
            for number, parts in enumerate(pieces):
                asked = time.perf_counter()
                batch = joined([next(loader) for _ in parts])
                if number:  # until the first one comes, processes are started, and it says nothing of their pace
                    profile.starved += time.perf_counter() - asked
                started = line.start(batch)
                if measure and started is not None:
                    measure, before = False, time.perf_counter()
                    profile.limit = forward.limit(started.images)
                    bar.limit = profile.limit
                    begun += time.perf_counter() - before  # no part of the work
            line.drain()
        except KeyboardInterrupt:
            with suppress(Exception):  # what the device has computed is not lost
                line.drain()
            raise
    profile.compiling = None if run.compiled is None else run.compiled.seconds if run.compiled.works else 0.0
    profile.wall += time.perf_counter() - begun
    profile.write += writer.seconds
    profile.blocked += writer.blocked
    return Made(writer.written, line.assembly.digests)


class _Line:
    """Batches on their way: started on the device, and taken back in the order they came, so many late as it wants."""

    def __init__(self, forward: Forward, assembly: _Assembly, bar: Progress) -> None:
        self._forward, self.assembly, self._bar = forward, assembly, bar
        self._waiting: deque[tuple[Batch, Started | None]] = deque()

    def start(self, batch: Batch) -> Started | None:
        """Have the device work on a batch; None if it holds no image."""
        self.assembly.judge(batch)
        started = self._forward.start(batch) if batch.pixels else None
        self._waiting.append((batch, started))
        if len(self._waiting) > self._forward.late:
            self._take()
        return started

    def drain(self) -> None:
        """Take back whatever is on its way."""
        while self._waiting:
            self._take()

    def _take(self) -> None:
        # Away only when it has been added: Ctrl-C may come between, and the rest is taken back nevertheless.
        batch, started = self._waiting[0]
        self.assembly.add(batch, started)
        self._waiting.popleft()
        self._bar.advance(len(batch.asked))


class _Assembly:
    """Batches in the order of the source → whole shards, for the writer. Added twice, a batch counts once."""

    def __init__(
        self, source: ImageSource, plan: EmbedPlan, numbers: Sequence[int], writer: ShardWriter, run: Run
    ) -> None:
        self._source, self._plan, self._writer, self._run = source, plan, writer, run
        self._numbers = iter(numbers)
        self.digests: dict[int, bytes] = {}
        self._begin()

    def judge(self, batch: Batch) -> None:
        """Raise what is wrong with an image, unless it may be left out."""
        for error in batch.errors.values():
            if self._run.on_error != "skip" or not isinstance(error, UndecodableImageError):
                raise error

    def add(self, batch: Batch, started: Started | None) -> None:
        """Take the rows of a batch, once they are there."""
        profile, plan = self._run.profile, self._plan
        profile.images += len(batch.positions)
        profile.decode += batch.seconds[0]
        profile.resize += batch.seconds[1]
        rows = np.empty((0, plan.dim), plan.dtype)
        if started is not None:
            arrived = started.wait()
            profile.copy += arrived.copy
            profile.model += arrived.model
            rows = storable(arrived.rows, plan, self._source.ids, batch.positions)
        self.digests.update(zip(batch.asked, batch.digests, strict=False))
        self._pieces[batch.asked[0]] = rows
        self._left_out.update(batch.errors)
        if batch.asked[-1] == self._range[-1]:
            self._writer.put(self._number, np.concatenate(list(self._pieces.values())), sorted(self._left_out))
            self._begin()

    def _begin(self) -> None:
        self._number = next(self._numbers, -1)  # −1: all are done, and nothing comes any more
        self._range = shard_range(self._plan, max(self._number, 0))
        self._pieces: dict[int, np.ndarray] = {}
        self._left_out: set[int] = set()


def storable(rows: Tensor, plan: EmbedPlan, ids: Sequence[str], positions: Sequence[int]) -> np.ndarray:
    """Outputs (B, D) float32 on the CPU of the images at these positions → rows (B, D) in the dtype of the artefact.

    Raises:
        EmbeddingsError: another shape, not finite, or too large.
    """
    if rows.shape != (len(positions), plan.dim):
        raise EmbeddingsError(
            "the prior gives rows of another shape than it says",
            expected=(len(positions), plan.dim),
            got=tuple(rows.shape),
            fix="correct `dim` or the layer in its registry entry",
        )
    finite = torch.isfinite(rows).all(1)
    if not finite.all():
        first = ids[positions[int((~finite).nonzero()[0])]]
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
            got=f"{float(rows[row].abs().max()):.6g} for {ids[positions[row]]!r}",
            fix="store float32: --dtype float32, in a new folder",
        )
    return rows.numpy().astype(plan.dtype)
