"""Shards written by a thread of its own, so that neither hashing nor the disk keeps the device waiting."""

from __future__ import annotations

import queue
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np

from rela_zoo.embeddings._format import EmbedPlan
from rela_zoo.embeddings._store import FinishedShard, write_shard

_WAITING = 2  # shards that may wait to be written, so that memory is bounded


class _Shard(NamedTuple):
    number: int
    rows: np.ndarray
    skipped: list[int]


class ShardWriter:
    """Writes shards beside whatever goes on; leaving it waits for those that were handed over, also after Ctrl-C.

    Args:
        folder: of the artefact.
        plan: what is made.

    Attributes:
        written: shards on disk, by number; whole once the writer has been left.
        seconds: spent on writing.
        blocked: seconds that others had to wait for it.

    Raises:
        EmbeddingsError: a shard can't be written; by `put`, or on leaving.
    """

    def __init__(self, folder: Path, plan: EmbedPlan) -> None:
        self._folder, self._plan = folder, plan
        self._queue: queue.Queue[_Shard | None] = queue.Queue(_WAITING)
        self._failed: BaseException | None = None
        self.written: dict[int, FinishedShard] = {}
        self.seconds = self.blocked = 0.0

    def __enter__(self) -> ShardWriter:
        self._thread = threading.Thread(target=self._run, name="rela-zoo-shards", daemon=True)
        self._thread.start()
        return self

    def put(self, number: int, rows: np.ndarray, skipped: list[int]) -> None:
        """Have a shard written.

        Args:
            number: of the shard.
            rows: (n, D) in the dtype of the plan, not to be changed afterwards.
            skipped: positions in the source that have no row.
        """
        self._surface()
        started = time.perf_counter()
        self._queue.put(_Shard(number, rows, skipped))
        self.blocked += time.perf_counter() - started

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        started = time.perf_counter()
        self._queue.put(None)
        self._thread.join()
        self.blocked += time.perf_counter() - started
        if error is None:
            self._surface()

    def _surface(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        # After a failure the rest is taken and dropped, so that nobody waits for room in the queue.
        while (shard := self._queue.get()) is not None:
            if self._failed is not None:
                continue
            started = time.perf_counter()
            try:
                self.written[shard.number] = write_shard(self._folder, self._plan, *shard)
            except BaseException as error:  # raised where it is seen
                self._failed = error
            self.seconds += time.perf_counter() - started
