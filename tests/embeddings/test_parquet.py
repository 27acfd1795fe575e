"""Embeddings as Parquet: every bit, in files and row groups of bounded size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from rela_zoo.embeddings import _parquet, open_embeddings, write_parquet, write_rows
from rela_zoo.errors import EmbeddingsError


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rows_come_back_bit_for_bit_from_several_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: Any
) -> None:
    """More rows than a group and a file hold, shards that end elsewhere, -0, subnormals, ids beyond ASCII."""
    monkeypatch.setattr(_parquet, "_GROUP_BYTES", 256 * 5 * 2)
    monkeypatch.setattr(_parquet, "_FILE_BYTES", 512 * 5 * 2)
    rows = torch.randn(1200, 5, generator=torch.Generator().manual_seed(0))
    rows[:3] = torch.tensor([0.0, -0.0, 6e-8, 65504.0, -65504.0])
    ids = [f"käse/{number:04d}.png" for number in range(1200)]
    table = write_rows(tmp_path / "e", [rows], ids, prior={"id": "x"}, dtype=dtype, shard_rows=500)
    paths, _ = write_parquet(table, tmp_path / "p", {"label": [None, *range(1199)]})
    assert len(paths) > 1
    assert [path.name for path in paths] == [f"rows-{n:05d}-of-{len(paths):05d}.parquet" for n in range(len(paths))]
    assert all(pq.ParquetFile(path).metadata.row_group(0).num_rows == 256 for path in paths[:-1])
    back = pq.read_table(paths)
    assert back["id"].to_pylist() == ids
    assert back["label"].to_pylist() == [None, *range(1199)]
    values = np.concatenate([piece.values.to_numpy() for piece in back["embedding"].chunks]).reshape(1200, 5)
    bits = np.uint16 if dtype == "float16" else np.uint32
    np.testing.assert_array_equal(values.view(bits), table.rows(range(1200)).numpy().view(bits))
    again, _ = write_parquet(open_embeddings(table.path), tmp_path / "again", {"label": [None, *range(1199)]})
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]


def test_no_room_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = write_rows(tmp_path / "e", [torch.ones(2, 3)], ["a", "b"], prior={"id": "x"})
    monkeypatch.setattr("rela_zoo.embeddings._store.shutil.disk_usage", lambda _: type("U", (), {"free": 5}))
    with pytest.raises(EmbeddingsError, match="not enough free disk space"):
        write_parquet(table, tmp_path / "p")
    assert not list((tmp_path / "p").iterdir())
