"""A transport by parts: that of one process, whoever ends last; and nothing of another table."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from rela_zoo.cli import app
from rela_zoo.embeddings import EmbeddingTable, write_rows
from rela_zoo.errors import TransportError
from rela_zoo.transport import TargetTransport, fit_transport, fit_transport_part

ROWS = 101


@pytest.fixture
def table(tmp_path: Path) -> EmbeddingTable:
    return _table(tmp_path / "table", 0)


def _table(folder: Path, seed: int) -> EmbeddingTable:
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(ROWS, 6)) * [9, 4, 2, 1, 0.5, 0.1] + 30
    rows = torch.from_numpy(rows.astype(np.float32))
    return write_rows(
        folder, [rows], [f"{i:03d}" for i in range(ROWS)], prior={"id": "x"}, dtype="float32", shard_rows=17
    )


@pytest.mark.parametrize("order", [*itertools.permutations((1, 2, 3))])
def test_whoever_ends_last(tmp_path: Path, table: EmbeddingTable, order: tuple[int, ...]) -> None:
    out = tmp_path / "made" / "t.safetensors"
    found = [fit_transport_part(table, out, (number, 3), chunk=8) for number in order]
    assert [one is None for one in found] == [True, True, False]
    made, whole = TargetTransport.load(out), fit_transport(table, chunk=8)
    assert made.stats.rows == ROWS
    assert (made.stats.source_digest, made.stats.prior) == (table.digest, "x")
    for name in ("mean", "components", "scale"):
        assert torch.allclose(getattr(made, name), getattr(whole, name), atol=1e-5)
    assert [one.name for one in out.parent.iterdir()] == ["t.safetensors"]
    first = tmp_path / "first.safetensors"
    for number in (1, 2, 3):
        fit_transport_part(table, first, (number, 3), chunk=8)
    assert out.read_bytes() == first.read_bytes()


def test_as_many_parts_as_rows(tmp_path: Path, table: EmbeddingTable) -> None:
    made = [fit_transport_part(table, tmp_path / "t.safetensors", (i, ROWS)) for i in range(1, ROWS + 1)][-1]
    assert made is not None
    assert torch.allclose(made.scale, fit_transport(table).scale, rtol=1e-5)


def test_what_is_refused(tmp_path: Path, table: EmbeddingTable) -> None:
    out = tmp_path / "t.safetensors"
    for part in ((0, 2), (3, 2), (1, ROWS + 1)):
        with pytest.raises(TransportError, match="no such part"):
            fit_transport_part(table, out, part)
    fit_transport_part(_table(tmp_path / "other", 1), out, (1, 2))
    with pytest.raises(TransportError, match="another table"):
        fit_transport_part(table, out, (2, 2))
    (tmp_path / "t.safetensors.part-1-of-2").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(TransportError):
        fit_transport_part(table, out, (2, 2))
    assert not out.exists()
    assert fit_transport_part(table, out, (1, 2)) is not None


def test_the_command(tmp_path: Path, table: EmbeddingTable) -> None:
    def run(*words: Any) -> Any:
        return CliRunner().invoke(app, ["transport", "fit", *map(str, words)])

    out = tmp_path / "t.safetensors"
    assert "part 1 of 2 is done" in run(table.path, "--out", out, "--part", "1/2").stdout
    assert "finished" in run(table.path, "--out", out, "--part", "1/2", "--json").stdout
    assert str(ROWS) in run(table.path, "--out", out, "--part", "2/2").stdout
    assert out.is_file()
    assert "--part is for" in str(run(table.path, table.path, "--out", out, "--part", "1/2").exception)
