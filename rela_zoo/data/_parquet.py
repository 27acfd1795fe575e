"""Images in parquet files in the Hub's layout: a column of structs {bytes, path}, one row an image."""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rela_zoo.data._decode import UndecodableImageError, decode
from rela_zoo.data._source import ImageSource, LeftOut, Stamps, check_unique, numbered, pixel_digest
from rela_zoo.data._stamps import file_stamps
from rela_zoo.errors import EmbeddingsError

_LABELS = ("label", "labels", "fine_label")
_KEPT_GROUPS = 2  # a batch may straddle two row groups; more would only hold memory


class ParquetSource(ImageSource):
    """One or more parquet files read as one list of rows, in the order of the file names.

    An id is the row's `path` where every row has one and all differ; else "<row>:<digest of the decoded RGB pixels>",
    as for an array with the same pixels.

    Labels are the integers of the first column named `label`, `labels` or `fine_label`, read when first asked for.

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
            column = _image_column(file.schema_arrow, path)
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
            paths += self._read(number, group, "path").to_pylist()
        self._named = all(paths) and len(set(paths)) == len(paths)
        if self._named:
            return [str(one) for one in paths]
        ids = [f"{i}:{self._digest(i)}" for i in range(len(self))]
        check_unique(ids, self._name())
        return ids

    @property
    def ids(self) -> Sequence[str]:
        return self._ids

    @cached_property
    def labels(self) -> Sequence[int] | None:
        import pyarrow as pa

        found: list[int] = []
        for path in self._files:
            file = open_parquet(path)
            name = next((one for one in _LABELS if one in file.schema_arrow.names), None)
            if name is None or not pa.types.is_integer(file.schema_arrow.field(name).type):
                file.close()
                return None
            column = file.read(columns=[name]).column(name)
            file.close()
            if column.null_count:
                raise EmbeddingsError(
                    f"{column.null_count} images of {path} have no label",
                    expected=f"a number in each row of {name}",
                    got="null",
                    fix="remove these rows, or do without labels: data.no_labels=true",
                )
            found += column.to_pylist()
        return found

    @cached_property
    def classes(self) -> Sequence[str]:
        return [] if self.labels is None else numbered(self.labels)

    def columns(self) -> list[str]:
        """Names and types of the columns, for messages."""
        file = open_parquet(self._files[0])
        found = [f"{one.name}: {'image' if one.name == self._column else one.type}" for one in file.schema_arrow]
        file.close()
        return found

    def raw(self, index: int) -> bytes:
        group = bisect.bisect_right(self._starts, index) - 1
        if group not in self._cache:
            self._cache[group] = self._read(*self._groups[group], "bytes")
            while len(self._cache) > _KEPT_GROUPS:
                self._cache.popitem(last=False)
        self._cache.move_to_end(group)
        found = self._cache[group][index - self._starts[group]].as_py()
        if found is None:
            raise UndecodableImageError(
                f"row {index} of {self._name()} holds no image",
                expected=f"encoded bytes in {self._column}.bytes",
                got="null",
                fix="embed the images into the file (datasets: `embed_external_files=True`), or leave such rows out "
                "with on_error='skip' (--skip-undecodable; data.on_error=skip)",
            )
        return bytes(found)

    def stamps(self) -> Stamps | None:
        _ = self.ids
        return Stamps(file_stamps([str(one) for one in self._files]), one_each=False) if self._named else None

    def describe(self) -> str:
        return f"parquet {self._name()} ({len(self)} images)"

    def _digest(self, index: int) -> str:
        try:
            return pixel_digest(np.asarray(decode(self.raw(index), f"row {index}")))
        except UndecodableImageError:
            return "undecodable"  # it has a place among the ids; making its row is what fails, or skips it

    def _read(self, number: int, group: int, field: str) -> Any:
        """One field of the image structs of one row group, as a pyarrow ChunkedArray."""
        import pyarrow as pa
        import pyarrow.compute as pc

        file = open_parquet(self._files[number])
        try:
            column = file.read_row_group(group, columns=[f"{self._column}.{field}"]).column(self._column)
            return pc.struct_field(column, field)
        except (OSError, pa.ArrowException) as error:
            raise EmbeddingsError(
                f"row group {group} of {self._files[number]} can't be read",
                expected="a whole parquet file",
                got=f"{type(error).__name__}: {error}",
                fix="download or write the file again",
            ) from error
        finally:
            file.close()

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
    except (OSError, pa.ArrowException) as error:
        raise EmbeddingsError(
            f"{path} can't be opened as parquet",
            expected="a whole parquet file",
            got=f"{type(error).__name__}: {error}",
            fix="download or write the file again",
        ) from error


def _image_column(schema: Any, path: Path) -> str:
    """The name of the column of structs with `bytes` and `path`: img or image if there, else the only such column."""
    import pyarrow as pa

    structs = [
        field.name
        for field in schema
        if pa.types.is_struct(field.type) and {"bytes", "path"} <= {one.name for one in field.type}
    ]
    for name in ("img", "image"):
        if name in structs:
            return name
    if len(structs) == 1:
        return str(structs[0])
    raise EmbeddingsError(
        f"{path} has no column of images in the Hub's layout",
        expected="a column `img` or `image` of structs {bytes, path}",
        got=", ".join(f"{field.name}: {field.type}" for field in schema) or "no column",
        fix="write it with the `datasets` library's Image feature, or give the images as a folder",
    )
