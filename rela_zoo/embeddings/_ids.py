"""The ids of a table, read when they are needed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from rela_zoo._io.digest import file_sha256
from rela_zoo.embeddings._format import FIX, Index
from rela_zoo.errors import EmbeddingsError


class LazyIds(Sequence[str]):
    """The ids of a table, read from disk and checked against their digest on first use of one of them."""

    def __init__(self, path: Path, index: Index) -> None:
        self._path, self._index = path, index
        self._loaded: list[str] | None = None

    def load(self) -> list[str]:
        if self._loaded is None:
            if file_sha256(self._path) != self._index.ids.sha256:
                raise EmbeddingsError(
                    f"{self._path} has a wrong digest: it is not the id list that these rows were made for",
                    expected=self._index.ids.sha256,
                    got=file_sha256(self._path),
                    fix=FIX,
                )
            # One string a line, and no line break inside a JSON string: a list but for its commas. A list of lines
            # would hold every id twice.
            listed = self._path.read_bytes().rstrip(b"\n").replace(b"\n", b",")
            try:
                ids = json.loads(b"[" + listed + b"]")
            except (ValueError, RecursionError) as error:
                raise EmbeddingsError(f"{self._path} is malformed", got=error, fix=FIX) from error
            if len(ids) != self._index.rows or not all(isinstance(one, str) for one in ids):
                raise EmbeddingsError(
                    f"{self._path} does not hold one id a row",
                    expected=f"{self._index.rows} strings",
                    got=f"{len(ids)} values",
                    fix=FIX,
                )
            self._loaded = ids
        return self._loaded

    def __len__(self) -> int:
        return self._index.rows

    @overload
    def __getitem__(self, item: int) -> str: ...
    @overload
    def __getitem__(self, item: slice) -> list[str]: ...
    def __getitem__(self, item: int | slice) -> str | list[str]:
        return self.load()[item]

    def __iter__(self) -> Iterator[str]:
        return iter(self.load())

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} sample ids in {self._path}>"
