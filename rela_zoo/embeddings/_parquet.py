"""Embeddings as Parquet: what `load_dataset`, viewers and data bases read. Training reads the shards.

Published beside the shards, which `pull` fetches alone, and not turned into shards on pull. 1,024 random rows take 1 ms
from mapped shards and seconds from Parquet, so whoever trains needs the shards in any case: made on pull they would
lie on every user's disk a second time, at a conversion each, and could be fetched neither shard by shard nor by older
versions. What the second copy costs is the publisher's, once: 1,281,167 rows of 768 float16 are 2.0 GB as either. The
values are kept plain and uncompressed, hence the same bytes as in the shards (compressed they would be 15 % smaller),
so a store that knows pieces by their content, as the Hub's does, has most of them already: in content-defined pieces of
about 64 KiB, 12 % of a file are new beside its shards, and 4 % after one row was taken out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rela_zoo.embeddings._format import row_dtype
from rela_zoo.embeddings._store import check_space
from rela_zoo.embeddings._table import EmbeddingTable
from rela_zoo.errors import EmbeddingsError

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("split", "label")  # what may stand beside id and embedding

_FILE_BYTES = 256 << 20
_GROUP_BYTES = 8 << 20  # a row group is what a reader fetches for one row
# Content-defined pages as large as a row group allows: each border between pages is one that the shards do not have.
_CHUNKING = {"min_chunk_size": 2 << 20, "max_chunk_size": 8 << 20}
_DIGEST = b"rela_zoo_digest"


def write_parquet(
    table: EmbeddingTable, folder: Path, columns: Mapping[str, Sequence[Any]] | None = None
) -> tuple[list[Path], int]:
    """Write a table as Parquet files of at most about 256 MiB, rows in order, bit for bit.

    Columns: `id` (string), those of `columns`, `embedding` (a list of D values of the table's dtype, none null). Equal
    input gives the same bytes with the same version of pyarrow.

    Args:
        table: the rows; read once.
        folder: for `rows-00000-of-00001.parquet` and so on; made when missing.
        columns: N values each, by name.

    Returns:
        The files, and how many bytes their values take.

    Raises:
        EmbeddingsError: no room, or rows that can't be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    count, dim = table.shape
    row_bytes = dim * row_dtype(table.info.dtype).itemsize
    folder.mkdir(parents=True, exist_ok=True)
    check_space(folder, count * row_bytes + 2 * table.info.ids.bytes)
    group = max(256, 1 << int(math.log2(max(1, _GROUP_BYTES // row_bytes))))
    file_rows = group * max(1, _FILE_BYTES // (group * row_bytes))
    files = max(1, math.ceil(count / file_rows))
    paths = [folder / f"rows-{number:05d}-of-{files:05d}.parquet" for number in range(files)]
    beside = {
        name: pa.array(values, pa.int64() if column_dtype(values) == "int64" else pa.string())
        for name, values in (columns or {}).items()
    }
    # Values that can't be null, as a field of their own, make no level of definition in the file.
    element = pa.field("element", pa.float16() if table.info.dtype == "float16" else pa.float32(), nullable=False)
    schema = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            *(pa.field(name, values.type) for name, values in beside.items()),
            pa.field("embedding", pa.list_(element, dim), nullable=False),
        ],
        metadata={_DIGEST: table.digest.encode()},
    )
    options: dict[str, Any] = {
        "use_dictionary": list(beside),
        "compression": {name: "zstd" for name in ("id", *beside)} | {"embedding.list.element": "none"},
        "write_statistics": ["id", *beside],
        "write_page_index": True,
        "data_page_size": _GROUP_BYTES,
    }
    size, rows = 0, table.iter_rows(group)
    for number, path in enumerate(paths):
        with _writer(pq, path, schema, options) as writer:
            for start in range(number * file_rows, min((number + 1) * file_rows, count), group):
                values = next(rows).numpy().reshape(-1)
                stop = start + len(values) // dim
                pieces = [
                    pa.array(table.ids[start:stop], pa.string()),
                    *(one[start:stop] for one in beside.values()),
                    pa.FixedSizeListArray.from_arrays(pa.array(values), type=schema.field("embedding").type),
                ]
                size += sum(one.nbytes for one in pieces)
                writer.write_table(pa.Table.from_arrays(pieces, schema=schema), row_group_size=group)
    return paths, size


def _writer(pq: Any, path: Path, schema: pa.Schema, options: Mapping[str, Any]) -> Any:
    try:
        return pq.ParquetWriter(path, schema, **options, use_content_defined_chunking=_CHUNKING)
    except TypeError:  # pyarrow before 21
        return pq.ParquetWriter(path, schema, **options)


def read_columns(path: Path, ids: Sequence[str]) -> dict[str, list[Any]]:
    """Labels and splits of samples, from a table with a column `id`.

    Args:
        path: `.csv`, `.jsonl` or `.parquet`, with `id` and any of `split` and `label`.
        ids: whose they are wanted, in this order; the file may have more.

    Returns:
        Column → len(ids) values.

    Raises:
        EmbeddingsError: another column, an id twice, or one without a row.
    """
    import pyarrow as pa
    from pyarrow import csv, json, parquet

    readers = {".csv": _read_csv(csv), ".jsonl": json.read_json, ".parquet": parquet.read_table}
    try:
        found = readers[path.suffix](path)
    except KeyError:
        raise EmbeddingsError(
            f"{path} can't be read", expected=", ".join(readers), got=path.suffix or "no extension"
        ) from None
    except (OSError, pa.ArrowException) as error:
        raise EmbeddingsError(f"{path} can't be read", expected="a table with a column `id`", got=error) from error
    names = [name for name in found.column_names if name != "id"]
    if "id" not in found.column_names or not names or not set(names) <= set(COLUMNS):
        raise EmbeddingsError(
            f"{path} has other columns than are published", expected=f"id, and any of {', '.join(COLUMNS)}",
            got=", ".join(found.column_names), fix="leave the others out",
        )  # fmt: skip
    known = found["id"].cast(pa.string()).to_pylist()
    row_of = {one: row for row, one in enumerate(known)}
    missing = [one for one in ids if one not in row_of]
    if missing or len(row_of) < len(known):
        raise EmbeddingsError(
            f"{path} does not say one thing of every sample",
            expected=f"each of {len(ids)} ids in one row (an empty value says that there is none)",
            got=f"{len(missing)} missing, such as {missing[0]!r}" if missing else "ids that come twice",
            fix="complete the file; `ids.jsonl` of the embeddings lists the ids",
        )
    taken = pa.array([row_of[one] for one in ids], pa.int64())
    read = {name: found[name].take(taken).to_pylist() for name in COLUMNS if name in names}
    for name, values in read.items():
        kinds = {type(one).__name__ for one in values} - {"NoneType"}
        if kinds - {"str"} and (kinds - {"int"} or name == "split"):
            raise EmbeddingsError(
                f"{path} has a column {name!r} of another kind", expected="texts, or for labels whole numbers",
                got=", ".join(sorted(kinds)), fix="correct the file",
            )  # fmt: skip
    return read


def column_dtype(values: Sequence[Any]) -> str:
    """`int64` or `string`, of what `read_columns` gives."""
    return "int64" if any(isinstance(one, int) for one in values) else "string"


def _read_csv(csv: Any) -> Any:
    """Ids as they are written: `007` is no number."""
    import pyarrow as pa

    options = csv.ConvertOptions(column_types={"id": pa.string(), "split": pa.string()}, strings_can_be_null=True)
    return lambda path: csv.read_csv(path, convert_options=options)
