"""Embeddings: one row a sample by a frozen prior, as safetensors shards with ids and hashes.

`image_source` gives any form of data lasting ids; `embed` writes an artefact and goes on after a kill;
`open_embeddings` opens one by memory map. The format is described in `_format`.
"""

from __future__ import annotations

from rela_zoo.embeddings._extract import embed
from rela_zoo.embeddings._format import Index
from rela_zoo.embeddings._open import open_embeddings
from rela_zoo.embeddings._source import ImageSource, UndecodableImageError, pixel_digest
from rela_zoo.embeddings._sources import image_source
from rela_zoo.embeddings._table import EmbeddingTable
from rela_zoo.embeddings._write import write_rows

__all__ = [
    "EmbeddingTable",
    "ImageSource",
    "Index",
    "UndecodableImageError",
    "embed",
    "image_source",
    "open_embeddings",
    "pixel_digest",
    "write_rows",
]
