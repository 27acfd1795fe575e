"""Images in a Lance data set (`NAME.lance`): the columns of the Hub's layout, or one of encoded pictures."""

from __future__ import annotations

import os
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
    then that of a column `path`, if there is one.

    Args:
        folder: the data set.

    Raises:
        EmbeddingsError: no such data set, or it has no column of images; `pylance` is not installed.
    """

    def __init__(self, folder: Path) -> None:
        import pyarrow as pa

        self._folder = str(folder)
        self._kept: tuple[int, Any] | None = None
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
        """The open data set, of this process: what it holds does not outlive a fork."""
        if self._kept is None or self._kept[0] != os.getpid():
            try:
                import lance
            except ImportError:
                raise EmbeddingsError(
                    "Lance data sets need pylance", expected="pylance", got="not installed",
                    fix=install_command("lance"),
                ) from None  # fmt: skip
            try:
                self._kept = os.getpid(), lance.dataset(self._folder)
            except (OSError, ValueError) as error:
                raise EmbeddingsError(
                    f"{self._folder} can't be opened as a Lance data set", expected="one that is whole",
                    got=str(error).splitlines()[0][:200], fix="write or download it again",
                ) from error  # fmt: skip
        return self._kept[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}

    def _paths(self) -> list[str | None]:
        data = self._data()
        if self._plain is not None and _PATH not in data.schema.names:
            return [None] * len(self)
        column = _PATH if self._plain is not None else f"{self._column}.path"
        return list(data.to_table(columns={"found": column}).column("found").to_pylist())

    def _row(self, index: int) -> tuple[bytes | None, str | None]:
        row = self._data().take([index], columns=[self._column]).column(self._column)[0].as_py()
        return (row, None) if self._plain is not None else ((row or {}).get("bytes"), (row or {}).get("path"))

    def _label_values(self, column: str) -> list[int | None]:
        return list(self._data().to_table(columns=[column]).column(column).to_pylist())
