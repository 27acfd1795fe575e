"""Embeddings: one row a sample by a frozen prior, as safetensors shards with ids and hashes.

`embed` writes an artefact and goes on after a kill; `open_embeddings` opens one by memory map. The format is described
in `_format`.
"""

from __future__ import annotations

from rela_zoo.embeddings._cache import cache_folder, cached_embeddings, find_cached
from rela_zoo.embeddings._extract import embed
from rela_zoo.embeddings._format import INDEX, Index, SampleRecord, read_index
from rela_zoo.embeddings._open import open_embeddings, open_ids, refuse_other_content
from rela_zoo.embeddings._parquet import column_dtype, read_columns, write_parquet
from rela_zoo.embeddings._parts import count_shards, embed_part, embed_shard
from rela_zoo.embeddings._precision import LEAST_COSINE, MOST_DIFFERENCE, Agreement, agreement
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

__all__ = [
    "INDEX",
    "LEAST_COSINE",
    "MOST_DIFFERENCE",
    "Agreement",
    "EmbeddingTable",
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
