"""Rows of published embeddings: all of them, or the shards that hold some samples."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rela_zoo.errors import HubError
from rela_zoo.remote import cached_file, fetch_file, list_once, mirror_address

if TYPE_CHECKING:
    from rela_zoo._io.progress import Progress
    from rela_zoo.embeddings import EmbeddingTable, FileRecord
    from rela_zoo.registry import HubFolder

WORKERS = 8  # as many as the Hub's own client
_INDEX = "index.json"
_MAX_JSON_BYTES = 64 * 1024 * 1024
# Files from which on a list of all of them is cheaper than a question about each.
_WORTH_A_LIST = 3


@dataclass(frozen=True)
class Rows:
    """Which rows are wanted: shards by number, or samples by id; all where neither is said."""

    shards: Sequence[int] | None = None
    ids: Sequence[str] | None = None


def pull_ids(place: HubFolder) -> EmbeddingTable:
    """Index and sample ids of published embeddings, without their rows: enough to see whether they fit some data.

    Returns:
        A table whose rows can't be read yet.

    Raises:
        HubError: out of reach, refused or damaged.
        EmbeddingsError: malformed, or of a newer format.
    """
    from rela_zoo.embeddings import open_ids

    table = open_ids(fetch_index(place))
    ids = table.info.ids
    fetch_file(place.repo, join(place.path, ids.file), place.revision, "dataset", sha256=ids.sha256)
    return table


def pull_rows(
    place: HubFolder, rows: Rows, workers: int, progress: bool | Literal["always"]
) -> tuple[Path, int, tuple[int, ...] | None]:
    """Folder in the cache, bytes, and numbers of the shards if these are not all."""
    from rela_zoo._io.progress import Progress
    from rela_zoo.embeddings import read_index

    folder = fetch_index(place)
    info = read_index(folder)
    numbers = range(len(info.shards)) if rows.shards is None else sorted(set(rows.shards))
    if wrong := [one for one in numbers if not 0 <= one < len(info.shards)]:
        raise HubError("there is no such shard", expected=f"0 to {len(info.shards) - 1}", got=wrong, fix="correct it")
    if rows.ids is not None:
        table = pull_ids(place)
        numbers = table.shards_of(table.positions(rows.ids))
    records: list[FileRecord] = [info.ids, *(info.shards[one] for one in numbers)]
    paths = {one.file: join(place.path, one.file) for one in records}
    absent = [one for one in paths.values() if cached_file(place.repo, one, place.revision, "dataset") is None]
    if len(absent) >= _WORTH_A_LIST and mirror_address() is None:
        list_once(place.repo, place.revision, "dataset", join(place.path, _INDEX))

    total = sum(one.bytes for one in records)
    with (
        Progress(f"fetching {place.repo}", total, unit="bytes", show=progress) as bar,
        ThreadPoolExecutor(max(1, workers)) as pool,
    ):

        def fetch(one: FileRecord) -> None:
            told = _Told(bar, one.bytes)
            fetch_file(
                place.repo, paths[one.file], place.revision, "dataset",
                sha256=one.sha256, limit=one.bytes, on_bytes=told.add,
            )  # fmt: skip
            told.finish()

        # Each in a copy of this thread's context: signatures are asked for in the others, too.
        waiting = [pool.submit(copy_context().run, fetch, one) for one in records]
        try:
            for done in as_completed(waiting):
                done.result()
        except BaseException:
            # A refusal or Ctrl-C: files under way are finished, others not begun.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return folder, total, None if len(numbers) == len(info.shards) else tuple(numbers)


class _Told:
    """What a bar has been told of one file: never more than its bytes, however often it is fetched."""

    def __init__(self, bar: Progress, size: int) -> None:
        self._bar, self._size = bar, size
        self._seen = self._told = 0

    def add(self, count: int) -> None:
        self._seen += count
        self._tell(min(max(self._seen, self._told), self._size))

    def finish(self) -> None:
        self._tell(self._size)

    def _tell(self, now: int) -> None:
        self._bar.advance(now - self._told)
        self._told = now


def fetch_index(place: HubFolder) -> Path:
    """The folder of published embeddings in the cache, with at least their index."""
    index = join(place.path, _INDEX)
    return fetch_file(place.repo, index, place.revision, "dataset", sha256=pinned(place), limit=_MAX_JSON_BYTES).parent


def pinned(place: HubFolder) -> str:
    """The sha256 of a place, without which nothing of it is used."""
    if place.sha256 is None:
        raise HubError(
            f"the entry does not say which bytes {place.path or 'the index'} of {place.repo} must be",
            expected="a sha256 beside repo, revision and path",
            got="none",
            fix="add it to the entry, or use an address hf://… of a repository with a manifest",
        )
    return place.sha256


def join(folder: str, name: str) -> str:
    """The path of a file in a folder of a repository, whose root is the empty text."""
    return f"{folder}/{name}" if folder else name
