"""A finished embedding artefact, opened by memory map."""

from __future__ import annotations

import mmap
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rela_zoo.data import check_unique
from rela_zoo.embeddings._format import FIX, INDEX, Index, row_dtype
from rela_zoo.embeddings._ids import LazyIds
from rela_zoo.errors import EmbeddingsError

# Each map holds a file descriptor, of which a process may have few: 256 on a Mac.
_MOST_MAPS = 512


def _open_maps() -> int:
    """How many shards may be mapped at once: at most a quarter of the files that this process may open."""
    try:
        import resource
    except ImportError:  # Windows
        return _MOST_MAPS
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(4, min(_MOST_MAPS, allowed // 4)) if allowed > 0 else _MOST_MAPS


class EmbeddingTable:
    """Embeddings of a data set by one prior: N rows of D values, each known by its sample id.

    Made by `open_embeddings` and `embed`. Rows are read when asked for; opening reads none. Of a table that was opened
    as a part, some shards are not on this machine: its ids, shape and digest are those of the whole, and rows of a
    shard that is not here are refused.

    Attributes:
        path: the folder.
        info: the parsed index: prior, preprocessing, layer, dtype, hashes, what was left out.
        ids: N sample ids in row order; read and checked on first use.
        digest: sha256, hex, of the content: ids, rows, prior, dtype.
        missing: numbers of the shards that are not here.

    Examples:
        >>> from rela_zoo import open_embeddings
        >>> table = open_embeddings("embeddings")
        >>> rows = table.rows(table.positions(["dog/007.png", "cat/000.png"]))
        >>> rows.shape, rows.dtype
        (torch.Size([2, 64]), torch.float16)
    """

    def __init__(self, path: Path, info: Index, offsets: Sequence[int | None]) -> None:
        self.path, self.info = path, info
        self.ids: Sequence[str] = LazyIds(path / info.ids.file, info)
        self._offsets = list(offsets)
        self.missing = tuple(number for number, offset in enumerate(offsets) if offset is None)
        self._starts = np.cumsum([0, *(shard.rows for shard in info.shards)], dtype=np.int64)
        self._reset()

    def _reset(self) -> None:
        self._maps: OrderedDict[int, np.ndarray] = OrderedDict()
        self._most_maps = _open_maps()
        self._positions: dict[str, int] | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_maps", "_positions", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return self.info.rows, self.info.dim

    @property
    def dtype(self) -> torch.dtype:
        """torch.float16 or torch.float32, as stored."""
        return torch.float16 if self.info.dtype == "float16" else torch.float32

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the artefact's files in `path`."""
        return INDEX, self.info.ids.file, *(shard.file for shard in self.info.shards)

    @property
    def digest(self) -> str:
        return self.info.digest

    def __len__(self) -> int:
        return self.info.rows

    def __repr__(self) -> str:
        count = len(self._offsets)
        here = f", {count - len(self.missing)} of {count} shards here" if self.missing else ""
        return f"EmbeddingTable({str(self.path)!r}, shape={self.shape}, dtype={self.info.dtype}{here})"

    def shards_of(self, indices: Sequence[int] | np.ndarray | Tensor) -> list[int]:
        """Numbers of the shards that hold these rows, in order, each once.

        Raises:
            EmbeddingsError: an index out of range or not an integer.
        """
        wanted = _as_indices(indices, len(self))
        return np.unique(np.searchsorted(self._starts, wanted, side="right") - 1).tolist()

    def rows(self, indices: Sequence[int] | np.ndarray | Tensor) -> Tensor:
        """Rows by number, in the order asked for.

        Args:
            indices: (B,) integers in [0, N); repeats are allowed.

        Returns:
            (B, D) in the stored dtype, on the CPU, a copy of its own.

        Raises:
            EmbeddingsError: an index out of range or not an integer, a row with NaN or infinity, or one of a shard that
                is not here.
        """
        return self._gather(indices, lambda number, places: self._map(number)[places])

    def rows_once(self, indices: Sequence[int] | np.ndarray | Tensor) -> Tensor:
        """As `rows`, for a pass over the whole table in any order: no mapped page counts against memory afterwards."""
        return self._gather(indices, self._read_once)

    def _gather(
        self, indices: Sequence[int] | np.ndarray | Tensor, read: Callable[[int, np.ndarray], np.ndarray]
    ) -> Tensor:
        """Rows by number, shard by shard; `read` gets a shard's number and places (n,) within it."""
        wanted = _as_indices(indices, len(self))
        out = np.empty((len(wanted), self.info.dim), row_dtype(self.info.dtype))
        shards = np.searchsorted(self._starts, wanted, side="right") - 1
        order = np.argsort(shards, kind="stable")
        bounds = np.flatnonzero(np.diff(shards[order])) + 1
        for group in np.split(order, bounds) if len(order) else []:
            number = int(shards[group[0]])
            out[group] = read(number, wanted[group] - self._starts[number])
        return self._checked(out, wanted)

    def _read_once(self, number: int, places: np.ndarray) -> np.ndarray:
        first, last = int(places.min()), int(places.max())
        if last - first >= 4 * len(places):  # too scattered to read everything between them
            return self._open_map(number)[places]
        dtype = row_dtype(self.info.dtype)
        out = np.empty((last - first + 1, self.info.dim), dtype)
        self._read_into(out, number, first)
        return out[places - first]

    def iter_rows(self, chunk: int = 8192, *, start: int = 0, stop: int | None = None) -> Iterator[Tensor]:
        """The rows in order, in pieces of `chunk` rows (the last may be shorter): all, or those from `start` to `stop`.

        Read with plain reads into a piece of its own, not through the map: a pass over the whole table leaves no
        mapped pages behind.

        Yields:
            (chunk, D) in the stored dtype.

        Raises:
            EmbeddingsError: a row with NaN or infinity, or a shard that became shorter or is not here.
        """
        if chunk < 1:
            raise ValueError(f"expected a chunk of at least 1 row, got {chunk}")
        dtype = row_dtype(self.info.dtype)
        end = len(self) if stop is None else min(stop, len(self))
        for first in range(start, end, chunk):
            last = min(first + chunk, end)
            out = np.empty((last - first, self.info.dim), dtype)
            at = first
            while at < last:
                number = int(np.searchsorted(self._starts, at, side="right")) - 1
                until = min(last, int(self._starts[number + 1]))
                self._read_into(out[at - first : until - first], number, at - int(self._starts[number]))
                at = until
            yield self._checked(out, range(first, last))

    def _read_into(self, out: np.ndarray, number: int, first: int) -> None:
        """Fill `out` (n, D) with the rows of a shard from place `first` on, by a plain read."""
        path, offset = self.path / self.info.shards[number].file, self._offset(number)
        with path.open("rb") as file:
            file.seek(offset + first * out.itemsize * self.info.dim)
            piece = out.data.cast("B")
            if file.readinto(piece) != len(piece):
                raise EmbeddingsError(f"{path} became shorter while it was read", fix=FIX)

    def positions(self, ids: Sequence[str]) -> np.ndarray:
        """Row numbers of samples, by id: the join of a data set with this table.

        Args:
            ids: sample ids, none twice.

        Returns:
            (len(ids),) int64.

        Raises:
            EmbeddingsError: ids that are not in the table (with counts and three of them), or given twice.
        """
        if self._positions is None:
            rows_of = {one: row for row, one in enumerate(self.ids)}
            if len(rows_of) != len(self):
                check_unique(self.ids, str(self.path))
            self._positions = rows_of
        check_unique(ids, "the data set to be joined")
        get = self._positions.get
        found = np.fromiter((get(one, -1) for one in ids), np.int64, len(ids))
        missing = np.flatnonzero(found < 0)
        if len(missing):
            examples = ", ".join(repr(ids[int(i)]) for i in missing[:3])
            raise EmbeddingsError(
                f"{len(missing)} of {len(ids)} samples have no row in {self.path}",
                expected=f"ids such as {', '.join(map(repr, self.ids[:3]))} ({len(self)} in all)",
                got=f"missing: {examples}",
                fix="run `rela-zoo embed` on this data set, or give the embeddings that were made from it",
            )
        return found

    def _map(self, number: int) -> np.ndarray:
        """The rows of one shard, (n, D), read-only, mapped."""
        with self._lock:
            if number not in self._maps:
                self._maps[number] = self._open_map(number)
                while len(self._maps) > self._most_maps:
                    self._maps.popitem(last=False)
            self._maps.move_to_end(number)
            return self._maps[number]

    def _offset(self, number: int) -> int:
        """Where the rows of a shard begin in its file, in bytes; refused if the file is not here."""
        offset = self._offsets[number]
        if offset is None:
            first, last = int(self._starts[number]), int(self._starts[number + 1]) - 1
            count = len(self._offsets)
            raise EmbeddingsError(
                f"rows {first:,} to {last:,} of {self.path} are not on this machine",
                expected=f"rows of the {count - len(self.missing)} shards of {count} that are here",
                got=f"a row of {self.info.shards[number].file}",
                fix="fetch all (`rela-zoo pull PRIOR --dataset NAME`), or those of your samples (--data, --ids), "
                "and open the table again",
            )
        return offset

    def _open_map(self, number: int) -> np.ndarray:
        offset = self._offset(number)
        with (self.path / self.info.shards[number].file).open("rb") as file:
            pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_RANDOM"):
            # Else each first touch of a row reads its whole neighbourhood: ten times slower on a cold cache.
            pages.madvise(mmap.MADV_RANDOM)
        flat = np.frombuffer(pages, row_dtype(self.info.dtype), self.info.shards[number].rows * self.info.dim, offset)
        return flat.reshape(-1, self.info.dim)

    def _checked(self, rows: np.ndarray, numbers: Sequence[int] | np.ndarray) -> Tensor:
        """Rows as a tensor, refused if one is not finite; `numbers` are their places in the table."""
        bad = _not_finite(rows)
        if bad.any():
            number = int(numbers[int(np.flatnonzero(bad.any(1))[0])])
            raise EmbeddingsError(
                f"row {number} of {self.path} has values that are not finite",
                expected="finite numbers in every row",
                got=f"NaN or infinity for sample {self.ids[number]!r}",
                fix=FIX,
            )
        return torch.from_numpy(rows)


def _not_finite(rows: np.ndarray) -> np.ndarray:
    """Where values (n, D) are NaN or infinite: in float16 by the bits, which is many times faster."""
    if rows.dtype == np.float16:
        return (rows.view(np.uint16) & 0x7C00) == 0x7C00
    return ~np.isfinite(rows)


def _as_indices(indices: Sequence[int] | np.ndarray | Tensor, rows: int) -> np.ndarray:
    """Any list of row numbers → (B,) int64, each checked to be in [0, rows)."""
    wanted = indices.detach().cpu().numpy() if isinstance(indices, Tensor) else np.asarray(indices)
    if wanted.size == 0:
        return np.empty(0, np.int64)
    if wanted.ndim != 1 or wanted.dtype.kind not in "iu":
        raise EmbeddingsError(
            "rows are asked for by number",
            expected="integers of shape (B,)",
            got=f"{wanted.dtype} of shape {wanted.shape}",
            fix="turn ids into numbers with `positions`, a mask with `nonzero`",
        )
    wanted = wanted.astype(np.int64, copy=False)
    low, high = int(wanted.min()), int(wanted.max())
    if low < 0 or high >= rows:
        raise EmbeddingsError(
            "a row number is out of range", expected=f"0 to {rows - 1}", got=low if low < 0 else high
        )  # fmt: skip
    return wanted
