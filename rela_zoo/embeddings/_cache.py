"""Embeddings that were made on the way, kept by content: which prior, which images."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rela_zoo._io.log import logger
from rela_zoo._io.once import made_once
from rela_zoo._io.paths import artefact_cache
from rela_zoo.data import ImageSource
from rela_zoo.embeddings._extract import embed
from rela_zoo.embeddings._format import INDEX
from rela_zoo.embeddings._open import open_embeddings
from rela_zoo.embeddings._pictures import all_digests, changed_pictures
from rela_zoo.embeddings._table import EmbeddingTable

if TYPE_CHECKING:
    from rela_zoo.prior import Prior

log = logger(__name__)


def cache_folder(identity: Mapping[str, str | int], source: ImageSource) -> Path:
    """Where the float16 embeddings of these images by the prior with this identity belong.

    Named by ids and a few of the pictures. Where rows of other pictures under the same names are there already, the
    name gets a digest of all of them.
    """
    key = json.dumps({"prior": dict(identity), "data": source.probe(), "dtype": "float16"}, sort_keys=True)
    name = f"{identity['id']}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    folder = artefact_cache() / "embeddings" / re.sub(r"[/:]", "_", name)
    if not (folder / INDEX).is_file() or not (changed := changed_pictures(folder, source)):
        return folder
    log.warning(
        "the embeddings in %s are of other pictures: %d of %d have changed since, such as %r; they are not used",
        folder, len(changed), len(source), changed[0],
    )  # fmt: skip
    for one in sorted(folder.parent.glob(f"{folder.name}-*")):
        if (one / INDEX).is_file() and not changed_pictures(one, source):
            return one
    return folder.with_name(f"{folder.name}-{all_digests(source)[:16]}")


def find_cached(identity: Mapping[str, str | int], source: ImageSource) -> EmbeddingTable | None:
    """The embeddings in the cache; None where they have not been made. Needs no weights.

    Raises:
        EmbeddingsError: the artefact there is damaged.
    """
    return _open(cache_folder(identity, source))


def cached_embeddings(prior: Prior, source: ImageSource, *, device: str | None = None) -> EmbeddingTable:
    """The embeddings from the cache, made there when missing.

    Raises:
        EmbeddingsError: images that can't be decoded, or outputs that can't be stored.
    """
    folder = cache_folder(prior.identity(), source)
    lock = folder.with_name(f".{folder.name}.lock")
    made_once(folder / INDEX, lambda: embed(prior, source, folder, device=device), what="embeddings", lock=lock)
    return open_embeddings(folder)


def _open(folder: Path) -> EmbeddingTable | None:
    return open_embeddings(folder) if (folder / INDEX).is_file() else None
