"""Embeddings that were made on the way, kept by content: which prior, which images."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from rela_zoo._io.paths import artefact_cache
from rela_zoo.data._source import ImageSource
from rela_zoo.embeddings._extract import embed
from rela_zoo.embeddings._format import INDEX
from rela_zoo.embeddings._open import open_embeddings
from rela_zoo.embeddings._table import EmbeddingTable

if TYPE_CHECKING:
    from rela_zoo.prior import Prior


def cache_folder(prior: Prior, source: ImageSource) -> Path:
    """Where the float16 embeddings of these images by this prior belong."""
    key = json.dumps({"prior": prior.identity(), "data": source.probe(), "dtype": "float16"}, sort_keys=True)
    name = f"{prior.spec.id}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    return artefact_cache() / "embeddings" / name.replace("/", "_")


def cached_embeddings(prior: Prior, source: ImageSource, *, device: str | None = None) -> EmbeddingTable:
    """The embeddings from the cache, made there when missing.

    Raises:
        EmbeddingsError: images that can't be decoded, or outputs that can't be stored.
    """
    folder = cache_folder(prior, source)
    if (folder / INDEX).is_file():
        return open_embeddings(folder)
    return embed(prior, source, folder, device=device)
