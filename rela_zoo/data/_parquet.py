"""Images in parquet files in the Hub's layout: a column of structs {bytes, path}, one row an image."""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from rela_zoo.data._rows import checked_labels, class_names, digest_of, image_column, label_column, no_image, row_ids
from rela_zoo.data._source import ImageSource, LeftOut, Stamps, numbered
from rela_zoo.data._stamps import file_stamps
from rela_zoo.errors import EmbeddingsError

_KEPT_GROUPS = 2  # a batch may straddle two row groups; more would only hold memory


class ParquetSource(ImageSource):
    """One or more parquet files read as one list of rows, in the order of the file names.

    An id is the row's `path` where every row has one and all differ; else "<row>:<digest of the decoded RGB pixels>",
    as for an array with the same pixels.

    Labels are the integers of the first column named `label`, `labels` or `fine_label`, else of the only one that the
    `datasets` library marks as such; read when first asked for.

    Args:
        files: the parquet files, in order.
        left_out: what else lies beside them.

    Raises:
        EmbeddingsError: a file is not parquet, or has no column of images.
    """

    def __init__(self, files: Sequence[Path], left_out: tuple[LeftOut, ...] = ()) -> None:
        self._files, self.left_out = list(files), left_out
        self._column = ""
        self._groups: list[tuple[int, int]] = []  # (file, row group inside it)
        self._starts: list[int] = []  # first row of each group, and the number of rows at the end
        self._cache: OrderedDict[int, Any] = OrderedDict()
        self._named = False  # whether ids are the paths that the file names; known once they are read
        rows = 0
        for number, path in enumerate(self._files):
            file = open_parquet(path)
            column = image_column(file.schema_arrow, str(path))
            if self._column not in ("", column):
                raise EmbeddingsError(
                    f"{path} keeps its images in another column than {self._files[0]}",
                    expected=self._column,
                    got=column,
                    fix="give one of the files",
                )
            self._column = column
            for group in range(file.metadata.num_row_groups):
                self._groups.append((number, group))
                self._starts.append(rows)
                rows += file.metadata.row_group(group).num_rows
            file.close()
        self._starts.append(rows)
        if not rows:
            raise EmbeddingsError(f"{self._name()} has no rows", expected="at least one image", got="0 rows")

    def __len__(self) -> int:
        return self._starts[-1]

    def __getstate__(self) -> dict[str, Any]:
        # Row groups are read again in a worker: shipping them would cost more than reading.
        return {**self.__dict__, "_cache": OrderedDict()}

    @cached_property
    def _ids(self) -> list[str]:
        paths: list[str | None] = []
        for number, group in self._groups:
            paths += self._read(number, group, "path", lambda found: found.to_pylist())
        ids, self._named = row_ids(paths, lambda index: digest_of(self, index), self._name())
        return ids

    @property
    def ids(self) -> Sequence[str]:
        return self._ids

    @cached_property
    def labels(self) -> Sequence[int] | None:
        found: list[int] = []
        for path in self._files:
            with _reading(path) as file:
                name = label_column(file.schema_arrow)
                if name is None:
                    return None
                values = file.read(columns=[name]).column(name).to_pylist()
            found += checked_labels(values, str(path), name)
        return found

    @cached_property
    def classes(self) -> Sequence[str]:
        if self.labels is None:
            return []
        with _reading(self._files[0]) as file:
            names = class_names(file.schema_arrow, label_column(file.schema_arrow))
        return names or numbered(self.labels)

    def columns(self) -> list[str]:
        """Names and types of the columns, for messages."""
        with _reading(self._files[0]) as file:
            return [f"{one.name}: {'image' if one.name == self._column else one.type}" for one in file.schema_arrow]

    def raw(self, index: int) -> bytes:
        group = bisect.bisect_right(self._starts, index) - 1
        if group not in self._cache:
            self._cache[group] = self._read(*self._groups[group], "bytes")
            while len(self._cache) > _KEPT_GROUPS:
                self._cache.popitem(last=False)
        self._cache.move_to_end(group)
        found = self._cache[group][index - self._starts[group]].as_py()
        if found is None:
            raise no_image(index, self._name(), self._column)
        return bytes(found)

    def stamps(self) -> Stamps | None:
        _ = self.ids
        return Stamps(file_stamps([str(one) for one in self._files]), one_each=False) if self._named else None

    def describe(self) -> str:
        return f"parquet {self._name()} ({len(self)} images)"

    def _read(self, number: int, group: int, field: str, into: Callable[[Any], Any] = lambda found: found) -> Any:
        """One field of the image structs of one row group, a pyarrow ChunkedArray, made into something."""
        import pyarrow.compute as pc

        with _reading(self._files[number], f"row group {group} of ") as file:
            column = file.read_row_group(group, columns=[f"{self._column}.{field}"]).column(self._column)
            if len(column) != file.metadata.row_group(group).num_rows:
                raise ValueError(f"{len(column)} rows where {file.metadata.row_group(group).num_rows} are said to be")
            return into(pc.struct_field(column, field))

    def _name(self) -> str:
        first = str(self._files[0])
        return first if len(self._files) == 1 else f"{first} and {len(self._files) - 1} more"


def open_parquet(path: Path) -> Any:
    """The file as pyarrow's ParquetFile, to be closed.

    Raises:
        EmbeddingsError: it is none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _damaged(f"{path} can't be opened as parquet", error) from error


@contextmanager
def _reading(path: Path, part: str = "") -> Iterator[Any]:
    """The open file; what is wrong inside it is said in this package's words.

    Args:
        path: the file.
        part: of it that is read, for the message.
    """
    import pyarrow as pa

    file = open_parquet(path)
    try:
        yield file
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _damaged(f"{part}{path} can't be read", error) from error
    finally:
        file.close()


def _damaged(what: str, error: Exception) -> EmbeddingsError:
    return EmbeddingsError(
        what, expected="a whole parquet file", got=f"{type(error).__name__}: {error}",
        fix="download or write the file again",
    )  # fmt: skip
