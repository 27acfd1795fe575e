"""Write rows that are already there as an artefact: transported rows, rows from another program."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from rela_zoo.data import ids_sha256
from rela_zoo.embeddings._format import (
    FORMAT,
    FORMAT_VERSION,
    INDEX,
    EmbedPlan,
    SampleRecord,
    SourceRecord,
    default_shard_rows,
)
from rela_zoo.embeddings._open import open_embeddings
from rela_zoo.embeddings._store import FinishedShard, begin, finish, write_shard
from rela_zoo.embeddings._table import EmbeddingTable
from rela_zoo.errors import EmbeddingsError


def write_rows(
    out: str | os.PathLike[str],
    rows: Iterable[Tensor],
    ids: Sequence[str],
    *,
    prior: dict[str, str | int],
    preprocessing: str = "none",
    layer: str = "",
    dtype: Literal["float16", "float32"] = "float16",
    shard_rows: int | None = None,
    samples: Mapping[str, SampleRecord] | None = None,
) -> EmbeddingTable:
    """Write rows as an artefact of embeddings; pieces are read one after the other and none is kept.

    Args:
        out: a folder that does not hold embeddings yet.
        rows: pieces (n, D), floating, len(ids) rows in all.
        ids: a sample id a row, none twice.
        prior: what made the rows, at least `id`; part of the digest.
        preprocessing: how the images were prepared.
        layer: which output it is.
        dtype: of the stored rows.
        shard_rows: rows a shard; None as for `embed`.
        samples: digests of pictures, of a table with rows of the same samples.

    Returns:
        The table, open.

    Raises:
        EmbeddingsError: another number of rows than ids, rows that aren't finite in `dtype`, a folder in use.
    """
    folder = Path(out).expanduser()
    if (folder / INDEX).exists():
        raise EmbeddingsError(f"{folder} holds embeddings already", expected="a new folder", fix="give another path")
    shard_rows = shard_rows or default_shard_rows(len(ids))
    ids_digest = ids_sha256(ids)
    asked: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "prior": prior,
        "preprocessing": preprocessing,
        "layer": layer,
        "dtype": dtype,
        # No picture was seen here, so nothing but the ids can be probed.
        "source": SourceRecord(rows=len(ids), ids_sha256=ids_digest, probe=ids_digest, shard_rows=shard_rows),
    }
    plan: EmbedPlan | None = None
    shards: list[FinishedShard] = []
    waiting: list[np.ndarray] = []
    held = 0

    def flush(count: int) -> None:
        nonlocal waiting, held
        joined = np.concatenate(waiting)
        assert plan is not None
        shards.append(write_shard(folder, plan, len(shards), np.ascontiguousarray(joined[:count]), ()))
        waiting = [joined[count:]] if len(joined) > count else []
        held = len(joined) - count

    for piece in rows:
        if plan is None:
            plan = EmbedPlan(**asked, dim=piece.shape[1])
            folder.mkdir(parents=True, exist_ok=True)
            begin(folder, plan)
        stored = piece.detach().cpu().to(getattr(torch, dtype))
        if stored.ndim != 2 or stored.shape[1] != plan.dim or not torch.isfinite(stored).all():
            raise EmbeddingsError(
                f"these rows can't be stored as {dtype}",
                expected=f"finite values of shape (n, {plan.dim}) within the range of {dtype}",
                got=f"shape {tuple(piece.shape)}, largest magnitude {float(piece.abs().max()):.6g}",
                fix="store float32" if dtype == "float16" else "check what made the rows",
            )
        waiting.append(stored.numpy())
        held += len(stored)
        while held >= shard_rows:
            flush(shard_rows)
    if held:
        flush(held)
    written = sum(shard.record.rows for shard in shards)
    if plan is None or written != len(ids):
        raise EmbeddingsError("rows and ids do not fit together", expected=f"{len(ids)} rows", got=written)
    finish(folder, plan, ids, shards, samples)
    return open_embeddings(folder)
