"""Rows written as an artefact without a prior at hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rela_zoo.embeddings import open_embeddings, write_rows
from rela_zoo.errors import EmbeddingsError


def test_rows_come_back_whatever_the_pieces(tmp_path: Path) -> None:
    rows = torch.randn(25, 3)
    ids = [f"i{n}" for n in range(25)]
    whole = write_rows(tmp_path / "a", [rows], ids, prior={"id": "x"}, dtype="float32", shard_rows=7)
    pieces = write_rows(tmp_path / "b", rows.split(4), ids, prior={"id": "x"}, dtype="float32", shard_rows=7)
    assert whole.digest == pieces.digest
    again = open_embeddings(tmp_path / "b", verify="full")
    assert torch.equal(again.rows(range(25)), rows)
    assert list(again.ids) == ids
    assert len(again.info.shards) == 4


def test_what_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingsError, match="float16"):
        write_rows(tmp_path / "a", [torch.full((2, 2), 1e6)], ["a", "b"], prior={"id": "x"})
    with pytest.raises(EmbeddingsError, match="fit together"):
        write_rows(tmp_path / "b", [torch.ones(2, 2)], ["a"], prior={"id": "x"})
    write_rows(tmp_path / "c", [torch.ones(2, 2)], ["a", "b"], prior={"id": "x"})
    with pytest.raises(EmbeddingsError, match="already"):
        write_rows(tmp_path / "c", [torch.ones(2, 2)], ["a", "b"], prior={"id": "x"})
