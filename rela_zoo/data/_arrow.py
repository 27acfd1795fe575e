"""Rows that the `datasets` library keeps: its data set objects, what `save_to_disk` writes, and its cache."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from rela_zoo.data._rows import RowSource
from rela_zoo.data._source import ImageSource, LeftOut
from rela_zoo.errors import EmbeddingsError

_STATE, _DICT, _INFO = "state.json", "dataset_dict.json", "dataset_info.json"
# What `map` and `filter` leave beside the data in the cache.
_BY_PRODUCTS = ("cache-", "tmp")


class ArrowSource(RowSource):
    """Rows of Arrow files in the streaming format, mapped into memory; read without the `datasets` library.

    Args:
        files: in order.
        left_out: what else lies beside them.

    Raises:
        EmbeddingsError: a file is no such file, or has no column of images.
    """

    def __init__(self, files: Sequence[Path], left_out: tuple[LeftOut, ...] = ()) -> None:
        self._paths_of_files, self.left_out = list(files), left_out
        first = str(files[0])
        where = f"arrow {first}" + (f" and {len(files) - 1} more" if len(files) > 1 else "")
        super().__init__(self._table.schema, self._table.num_rows, where, [str(one) for one in files])

    @cached_property
    def _table(self) -> Any:
        import pyarrow as pa

        tables = []
        for path in self._paths_of_files:
            try:
                tables.append(pa.ipc.open_stream(pa.memory_map(str(path))).read_all())
            except (OSError, ValueError, pa.ArrowException) as error:
                raise EmbeddingsError(
                    f"{path} can't be opened as an Arrow stream", expected="a file of the `datasets` library, whole",
                    got=f"{type(error).__name__}: {error}", fix="write or download the data set again",
                ) from error  # fmt: skip
        try:
            return pa.concat_tables(tables)
        except pa.ArrowException as error:
            raise EmbeddingsError(
                f"{self._paths_of_files[0]} and the files beside it have different columns",
                expected="the files of one data set", got=str(error).splitlines()[0], fix="name one of them",
            ) from error  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        # Mapped again in a worker: a table would be copied there whole.
        return {key: value for key, value in self.__dict__.items() if key != "_table"}

    def _paths(self) -> list[str | None]:
        import pyarrow.compute as pc

        return list(pc.struct_field(self._table.column(self._column), "path").to_pylist())

    def _row(self, index: int) -> tuple[bytes | None, str | None]:
        row = self._table.column(self._column)[index].as_py() or {}
        return row.get("bytes"), row.get("path")

    def _label_values(self, column: str) -> list[int | None]:
        return list(self._table.column(column).to_pylist())


class DatasetSource(RowSource):
    """A loaded `datasets.Dataset`: its images as they are kept, whatever its format or transform makes of them.

    Args:
        data: of the `datasets` library.

    Raises:
        EmbeddingsError: it has no column of images.
    """

    def __init__(self, data: Any) -> None:
        schema = data.features.arrow_schema
        name = getattr(data.info, "dataset_name", None) or "of the `datasets` library"
        files = [one["filename"] for one in data.cache_files]
        super().__init__(schema, len(data), f"data set {name}", files)
        from datasets import Image

        plain = data.with_format(None)
        self._images = plain.select_columns([self._column]).cast_column(self._column, Image(decode=False))
        self._all = plain

    def _paths(self) -> list[str | None]:
        import pyarrow.compute as pc

        found: list[str | None] = []
        for batch in self._images.with_format("arrow").iter(batch_size=1000):
            found += pc.struct_field(batch.column(self._column), "path").to_pylist()
        return found

    def _row(self, index: int) -> tuple[bytes | None, str | None]:
        row = self._images[int(index)][self._column] or {}
        return row.get("bytes"), row.get("path")

    def _label_values(self, column: str) -> list[int | None]:
        return list(self._all.with_format("arrow")[:].column(column).to_pylist())


def from_dataset(data: Any, split: str | None, choose: Any) -> ImageSource | None:
    """The source of an object of the `datasets` library; None for any other.

    Args:
        data: any object.
        split: of a dictionary of splits.
        choose: from the names of its splits to one.

    Raises:
        EmbeddingsError: a stream, which has no rows to be looked up.
    """
    library = sys.modules.get("datasets")  # whoever has such an object has imported it
    if library is None or not hasattr(library, "Dataset"):
        return None
    if isinstance(data, library.Dataset):
        return DatasetSource(data)
    if isinstance(data, library.DatasetDict):
        return DatasetSource(data[choose(list(data), split)])
    if isinstance(data, library.IterableDataset | library.IterableDatasetDict):
        raise EmbeddingsError(
            "a streamed data set has no rows that can be looked up by number", expected="a data set that is loaded",
            got=type(data).__name__, fix="load it with streaming=False, or save it with save_to_disk first",
        )  # fmt: skip
    return None


def saved_splits(folder: Path, arrow: Sequence[str]) -> dict[str, list[Path]]:
    """Files by split of what the `datasets` library has saved, or keeps in its cache; empty for any other folder.

    Args:
        folder: to look at.
        arrow: POSIX paths of the Arrow files in it, at any depth.

    Raises:
        EmbeddingsError: it is damaged, or several data sets lie there.
    """
    if (folder / _DICT).is_file():
        splits = _json(folder / _DICT).get("splits", [])
        return {str(one): _of_state(folder / str(one)) for one in splits}
    if (folder / _STATE).is_file() and (folder / _INFO).is_file():
        return {str(_json(folder / _STATE).get("_split") or ""): _of_state(folder)}
    cached = [one for one in arrow if not one.rpartition("/")[2].startswith(_BY_PRODUCTS)]
    homes = sorted({one.rpartition("/")[0] for one in cached})
    if not homes or not all((folder / one / _INFO).is_file() for one in homes):
        return {}
    if len(homes) > 1:
        raise EmbeddingsError(
            f"{folder} holds several data sets of the `datasets` library", expected="one", got=", ".join(homes[:4]),
            fix=f"name one of them: {folder / homes[0]}",
        )  # fmt: skip
    found: dict[str, list[Path]] = {}
    for name, path in _named_splits(folder, sorted(cached)):
        found.setdefault(name, []).append(path)
    return found


def _named_splits(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """`mnist-train-00000-of-00002.arrow` → `train`, as the library names its files."""
    for name in names:
        stem = name.rpartition("/")[2].removesuffix(".arrow")
        parts = stem.split("-")
        if len(parts) > 3 and parts[-2] == "of":
            parts = parts[:-3]
        yield parts[-1] if len(parts) > 1 else "", folder / name


def _of_state(folder: Path) -> list[Path]:
    files = _json(folder / _STATE).get("_data_files", [])
    names = [str(one["filename"]) for one in files if isinstance(one, dict) and "filename" in one]
    if not names or any("/" in one or not (folder / one).is_file() for one in names):
        raise EmbeddingsError(
            f"{folder} is not what `save_to_disk` writes, whole", expected=f"the files that its {_STATE} names",
            got=", ".join(names) or "none", fix="save or copy the data set again",
        )  # fmt: skip
    return [folder / one for one in names]


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EmbeddingsError(
            f"{path} is damaged", expected="JSON of the `datasets` library", got=error,
            fix="save or copy the data set again",
        ) from error  # fmt: skip
    return found if isinstance(found, dict) else {}
