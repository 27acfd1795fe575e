"""Images in rows of tables in the Hub's layout: which columns hold them, their labels, and how a row is known."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from rela_zoo.data._decode import UndecodableImageError, decode
from rela_zoo.data._source import ImageSource, Stamps, check_unique, numbered, pixel_digest
from rela_zoo.data._stamps import file_stamps
from rela_zoo.errors import EmbeddingsError

_LABELS = ("label", "labels", "fine_label")


def image_column(schema: Any, where: str) -> str:
    """The name of the column of structs with `bytes` and `path`: img or image if there, else the only such column.

    Args:
        schema: pyarrow's.
        where: for the error.

    Raises:
        EmbeddingsError: none, or several of other names.
    """
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
        f"{where} has no column of images in the Hub's layout",
        expected="a column `img` or `image` of structs {bytes, path}",
        got=", ".join(f"{field.name}: {field.type}" for field in schema) or "no column",
        fix="write it with the `datasets` library's Image feature, or give the images as a folder",
    )


def label_column(schema: Any) -> str | None:
    """The column of class numbers: `label`, `labels` or `fine_label`, else the only one marked as such; or None."""
    import pyarrow as pa

    marked = [name for name, feature in _features(schema).items() if feature.get("_type") == "ClassLabel"]
    candidates = [*_LABELS, *(marked if len(marked) == 1 else ())]
    name = next((one for one in candidates if one in schema.names), None)
    return name if name is not None and pa.types.is_integer(schema.field(name).type) else None


def class_names(schema: Any, column: str | None) -> list[str] | None:
    """Names of the classes that the `datasets` library has written into the file; None if it has not."""
    names = _features(schema).get(column or "", {}).get("names")
    return [str(one) for one in names] if isinstance(names, list) and names else None


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """What the `datasets` library notes of each column."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}


def checked_labels(values: Sequence[int | None], where: str, column: str) -> list[int]:
    """The labels of a column, none of which may be missing.

    Raises:
        EmbeddingsError: some are.
    """
    missing = sum(one is None for one in values)
    if missing:
        raise EmbeddingsError(
            f"{missing} images of {where} have no label",
            expected=f"a number in each row of {column}",
            got="null",
            fix="remove these rows, or do without labels: data.no_labels=true",
        )
    return [int(one) for one in values if one is not None]


def row_ids(paths: Sequence[str | None], digest: Callable[[int], str], where: str) -> tuple[list[str], bool]:
    """Ids of rows: their paths where every row has one and all differ, else "<row>:<digest of the pixels>".

    Returns:
        The ids, and whether they are the paths.
    """
    if all(paths) and len(set(paths)) == len(paths):
        return [str(one) for one in paths], True
    ids = [f"{i}:{digest(i)}" for i in range(len(paths))]
    check_unique(ids, where)
    return ids, False


def no_image(row: int, where: str, column: str) -> UndecodableImageError:
    """The error for a row that holds no image."""
    return UndecodableImageError(
        f"row {row} of {where} holds no image",
        expected=f"encoded bytes in {column}.bytes",
        got="null",
        fix="embed the images into the file (datasets: `embed_external_files=True`), or leave such rows out "
        "with on_error='skip' (--skip-undecodable; data.on_error=skip)",
    )


class RowSource(ImageSource):
    """Rows of structs {bytes, path}; of a row without bytes the file that its path names is read.

    Ids are as of a parquet file with the same rows, or, where the rows only name files, as of the folder that these
    lie in. A subclass gives `_paths`, `_row` and `_label_values`.

    Args:
        schema: pyarrow's, of all columns.
        count: of rows.
        where: for messages.
        files: that the rows are kept in, as far as known.
    """

    def __init__(self, schema: Any, count: int, where: str, files: Sequence[str] = ()) -> None:
        self._where, self._count, self._files = where, count, list(files)
        self._column, self._label_column = image_column(schema, where), label_column(schema)
        self._names = class_names(schema, self._label_column)
        self._named = False
        if not count:
            raise EmbeddingsError(f"{where} has no rows", expected="at least one image", got="0 rows")

    @abstractmethod
    def _paths(self) -> list[str | None]:
        """The paths of all rows; reads no image."""

    @abstractmethod
    def _row(self, index: int) -> tuple[bytes | None, str | None]:
        """Bytes and path of one row."""

    @abstractmethod
    def _label_values(self, column: str) -> list[int | None]:
        """The numbers of a column."""

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _outside(self) -> list[str] | None:
        """The files that the rows name, if they hold no bytes themselves."""
        encoded, path = self._row(0)
        if encoded is not None or path is None or not os.path.isabs(path):
            return None
        paths = self._paths()
        return [str(one) for one in paths] if all(paths) and len(set(paths)) == len(paths) else None

    @cached_property
    def _ids(self) -> list[str]:
        if self._outside is not None:
            root = os.path.join(self._root(self._outside), "")
            return [one[len(root) :].replace(os.sep, "/") for one in self._outside]
        ids, self._named = row_ids(self._paths(), self._digest, self._where)
        return ids

    def _root(self, paths: Sequence[str]) -> str:
        """The folder that the files' ids are relative to: that of the class folders, where there are such."""
        folder = os.path.commonpath([os.path.dirname(one) for one in paths])
        names = set(self._names or ())
        # With one class the folder of that class is all that the paths have in common.
        return os.path.dirname(folder) if os.path.basename(folder) in names else folder

    @property
    def ids(self) -> Sequence[str]:
        return self._ids

    @cached_property
    def labels(self) -> Sequence[int] | None:
        if self._label_column is None:
            return None
        return checked_labels(self._label_values(self._label_column), self._where, self._label_column)

    @cached_property
    def classes(self) -> Sequence[str]:
        return [] if self.labels is None else self._names or numbered(self.labels)

    def raw(self, index: int) -> bytes:
        encoded, path = self._row(index)
        if encoded is not None:
            return encoded
        if path is None or not os.path.isfile(path):
            raise no_image(index, self._where, self._column)
        with open(path, "rb") as file:
            return file.read()

    def stamps(self) -> Stamps | None:
        _ = self.ids
        if self._outside is not None:
            return Stamps(file_stamps(self._outside), one_each=True)
        return Stamps(file_stamps(self._files), one_each=False) if self._named and self._files else None

    def describe(self) -> str:
        return f"{self._where} ({self._count} images)"

    def _digest(self, index: int) -> str:
        return digest_of(self, index)


def digest_of(source: ImageSource, index: int) -> str:
    """Digest of an image's pixels, before it has an id; of one that can't be decoded, a word in its place."""
    try:
        return pixel_digest(np.asarray(decode(source.raw(index), f"row {index}")))
    except UndecodableImageError:
        return "undecodable"  # it has a place among the ids; making its row is what fails, or skips it
