"""Images in a Lance data set (`NAME.lance`): the columns of the Hub's layout, or one of encoded pictures."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rela_zoo._io.install import install_command
from rela_zoo.data._rows import RowSource
from rela_zoo.errors import EmbeddingsError

SUFFIX = ".lance"
_PATH = "path"


class LanceSource(RowSource):
    """Rows of a Lance data set, in its own order. Ids, labels and image column are as of a parquet file.

    A column `img` or `image`, or the only one, of bytes is taken as one of structs {bytes, path} would be; the path is
    then that of a column `path`, if there is one. All is read from the version that was the newest when it was opened,
    in every process: what is written meanwhile changes nothing.

    Args:
        folder: the data set.

    Raises:
        EmbeddingsError: no such data set, or it has no column of images; `pylance` is not installed.
    """

    def __init__(self, folder: Path) -> None:
        import pyarrow as pa

        self._folder = str(folder)
        self._kept: tuple[int, Any] | None = None
        self._version: int | None = None
        self._first_files: list[str] = []
        data = self._data()
        binary = [one.name for one in data.schema if pa.types.is_binary(one.type) or pa.types.is_large_binary(one.type)]
        named = [one for one in ("img", "image") if one in binary] or (binary if len(binary) == 1 else [])
        self._plain = named[0] if named else None
        image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        fields = [pa.field(one.name, image) if one.name == self._plain else one for one in data.schema]
        files = [str(one) for one in sorted(folder.rglob("*")) if one.is_file()]
        super().__init__(pa.schema(fields, data.schema.metadata), data.count_rows(), f"lance {folder}", files)
        self._plain = self._plain if self._plain == self._column else None

    def _data(self) -> Any:
        """The open data set, of this process: what it holds does not outlive a fork. Always the version opened first.

        Raises:
            EmbeddingsError: it can't be opened, or that version is gone.
        """
        if self._kept is None or self._kept[0] != os.getpid():
            try:
                import lance
            except ImportError:
                raise EmbeddingsError(
                    "Lance data sets need pylance", expected="pylance", got="not installed",
                    fix=install_command("lance"),
                ) from None  # fmt: skip
            try:
                found = lance.dataset(self._folder, version=self._version)
                files = [one.path for fragment in found.get_fragments()[:1] for one in fragment.data_files()]
            except (OSError, ValueError) as error:
                if self._version is not None:
                    raise self._gone(_first_line(error)) from error
                raise EmbeddingsError(
                    f"{self._folder} can't be opened as a Lance data set", expected="one that is whole",
                    got=_first_line(error), fix="write or download it again",
                ) from error  # fmt: skip
            # Removed and written again, a data set counts its versions anew; the names of its files are random.
            if self._version is not None and files != self._first_files:
                raise self._gone("another data set of the same name")
            self._version, self._first_files = found.version, files
            self._kept = os.getpid(), found
        return self._kept[1]

    def _read(self, read: Callable[[Any], Any]) -> Any:
        """What is read from the data set, whose files may be gone by now."""
        data = self._data()
        try:
            return read(data)
        except (OSError, ValueError) as error:
            raise self._gone(_first_line(error)) from error

    def _gone(self, got: str) -> EmbeddingsError:
        return EmbeddingsError(
            f"the Lance data set {self._folder} can't be read as it was when it was opened",
            expected=f"its version {self._version}, whose ids were read", got=got,
            fix="open it again, and keep that version (no clean-up) until the work is done",
        )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}

    def _paths(self) -> list[str | None]:
        if self._plain is not None and _PATH not in self._data().schema.names:
            return [None] * len(self)
        column = _PATH if self._plain is not None else f"{self._column}.path"
        return list(self._read(lambda data: data.to_table(columns={"found": column}).column("found").to_pylist()))

    def _row(self, index: int) -> tuple[bytes | None, str | None]:
        row = self._read(lambda data: data.take([index], columns=[self._column]).column(self._column)[0].as_py())
        return (row, None) if self._plain is not None else ((row or {}).get("bytes"), (row or {}).get("path"))

    def _label_values(self, column: str) -> list[int | None]:
        return list(self._read(lambda data: data.to_table(columns=[column]).column(column).to_pylist()))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
