"""Embeddings: one row a sample by a frozen prior, as safetensors shards with ids and hashes.

`embed` writes an artefact and goes on after a kill; `open_embeddings` opens one by memory map. The format is described
in `_format`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rela_zoo.embeddings._agreement import LEAST_COSINE, MOST_DIFFERENCE, Agreement, agreement
    from rela_zoo.embeddings._cache import cache_folder, cached_embeddings, find_cached
    from rela_zoo.embeddings._compiled import Compiled
    from rela_zoo.embeddings._extract import embed
    from rela_zoo.embeddings._format import INDEX, FileRecord, Index, SampleRecord, read_index
    from rela_zoo.embeddings._open import open_embeddings, open_ids, refuse_other_content
    from rela_zoo.embeddings._parquet import column_dtype, read_columns, write_parquet
    from rela_zoo.embeddings._parts import count_shards, embed_part, embed_shard
    from rela_zoo.embeddings._profile import Profile
    from rela_zoo.embeddings._samples import (
        PicturesCheck,
        check_pictures,
        check_same_pictures,
        compare_pictures,
        sample_records,
    )
    from rela_zoo.embeddings._table import EmbeddingTable
    from rela_zoo.embeddings._write_rows import write_rows

# Name → module, resolved on first use: reading an index must not load torch.
_EXPORTS = {
    "cache_folder": "_cache",
    "cached_embeddings": "_cache",
    "find_cached": "_cache",
    "embed": "_extract",
    "INDEX": "_format",
    "FileRecord": "_format",
    "Index": "_format",
    "SampleRecord": "_format",
    "read_index": "_format",
    "open_embeddings": "_open",
    "open_ids": "_open",
    "refuse_other_content": "_open",
    "column_dtype": "_parquet",
    "read_columns": "_parquet",
    "write_parquet": "_parquet",
    "count_shards": "_parts",
    "embed_part": "_parts",
    "embed_shard": "_parts",
    "Agreement": "_agreement",
    "LEAST_COSINE": "_agreement",
    "MOST_DIFFERENCE": "_agreement",
    "agreement": "_agreement",
    "Compiled": "_compiled",
    "Profile": "_profile",
    "PicturesCheck": "_samples",
    "check_pictures": "_samples",
    "check_same_pictures": "_samples",
    "compare_pictures": "_samples",
    "sample_records": "_samples",
    "EmbeddingTable": "_table",
    "write_rows": "_write_rows",
}

__all__ = [
    "INDEX",
    "LEAST_COSINE",
    "MOST_DIFFERENCE",
    "Agreement",
    "Compiled",
    "EmbeddingTable",
    "FileRecord",
    "Index",
    "PicturesCheck",
    "Profile",
    "SampleRecord",
    "agreement",
    "cache_folder",
    "cached_embeddings",
    "check_pictures",
    "check_same_pictures",
    "column_dtype",
    "compare_pictures",
    "count_shards",
    "embed",
    "embed_part",
    "embed_shard",
    "find_cached",
    "open_embeddings",
    "open_ids",
    "read_columns",
    "read_index",
    "refuse_other_content",
    "sample_records",
    "write_parquet",
    "write_rows",
]


# Hidden from type checkers, for whom a name that is not above does not exist.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _EXPORTS:
            return getattr(import_module(f"rela_zoo.embeddings.{_EXPORTS[name]}"), name)
        raise AttributeError(f"module 'rela_zoo.embeddings' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
