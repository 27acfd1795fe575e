"""A transport by parts: that of one process, whoever ends last; and nothing of another table."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from rela_zoo.cli import app
from rela_zoo.embeddings import EmbeddingTable, write_rows
from rela_zoo.errors import TransportError
from rela_zoo.transport import (
    PriorTransport,
    TargetTransport,
    fit_prior_transport,
    fit_prior_transport_part,
    fit_transport,
    fit_transport_part,
)

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


@pytest.fixture
def other(tmp_path: Path, table: EmbeddingTable) -> EmbeddingTable:
    """Another prior's rows of all samples but five, in another order."""
    generator = np.random.default_rng(5)
    order = generator.permutation(ROWS)[5:]
    rows = table.rows(order).numpy() @ generator.normal(size=(6, 4)) + generator.normal(size=(ROWS - 5, 4))
    rows = torch.from_numpy(rows.astype(np.float32))
    ids = [table.ids[int(i)] for i in order]
    return write_rows(tmp_path / "other", [rows], ids, prior={"id": "y"}, dtype="float32", shard_rows=17)


@pytest.mark.parametrize("method", ["ridge", "procrustes", "whitened"])
@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_a_pair_by_parts(
    tmp_path: Path, table: EmbeddingTable, other: EmbeddingTable, order: tuple[int, ...], method: Any
) -> None:
    out = tmp_path / "made" / "t.safetensors"
    found = [fit_prior_transport_part(table, other, out, (i, 3), method=method, chunk=8) for i in order]
    assert [one is None for one in found] == [True, True, False]
    made, whole = PriorTransport.load(out), fit_prior_transport(table, other, method=method, chunk=8)
    assert torch.allclose(made.weight, whole.weight, atol=1e-5)
    assert torch.allclose(made.bias, whole.bias, atol=1e-4)
    assert (made.source, made.target, made.strength, made.rows_fitted) == (
        whole.source,
        whole.target,
        whole.strength,
        whole.rows_fitted,
    )
    # By moments of all held-out rows, and by rows that were put aside: each of them once.
    assert made.quality.rows_held_out == whole.quality.rows_held_out
    assert made.quality.retrieval_among == whole.quality.retrieval_among
    assert made.quality.r2 == pytest.approx(whole.quality.r2, abs=1e-6)
    assert made.quality.cosine == pytest.approx(whole.quality.cosine, abs=1e-6)
    assert made.quality.retrieval_at_1 == whole.quality.retrieval_at_1
    assert [one.name for one in out.parent.iterdir()] == ["t.safetensors"]


def test_parts_so_small_that_some_hold_nothing_out(
    tmp_path: Path, table: EmbeddingTable, other: EmbeddingTable
) -> None:
    out = tmp_path / "t.safetensors"
    made = [fit_prior_transport_part(table, other, out, (i, ROWS - 5)) for i in range(1, ROWS - 4)][-1]
    assert made is not None
    assert torch.allclose(made.weight, fit_prior_transport(table, other).weight, atol=1e-5)
    with pytest.raises(TransportError, match="no such part"):
        fit_prior_transport_part(table, other, out, (1, ROWS - 4))


def test_a_part_of_another_pair_is_refused(tmp_path: Path, table: EmbeddingTable, other: EmbeddingTable) -> None:
    out = tmp_path / "t.safetensors"
    fit_prior_transport_part(other, table, out, (1, 2))
    with pytest.raises(TransportError, match="another table"):
        fit_prior_transport_part(table, other, out, (2, 2))
    assert not out.exists()


def test_a_piece_knows_which_part_it_is(tmp_path: Path, table: EmbeddingTable) -> None:
    out = tmp_path / "t.safetensors"
    fit_transport_part(table, out, (1, 3))
    shutil.copy(f"{out}.part-1-of-3", f"{out}.part-2-of-3")
    with pytest.raises(TransportError, match=r"part-2-of-3 is another part[\s\S]*run that part again"):
        fit_transport_part(table, out, (3, 3))
    assert not out.exists()
    for write in (fit_transport_part, fit_prior_transport_part):
        tables = [table] * (1 + (write is fit_prior_transport_part))
        with pytest.raises(TransportError, match="is a folder"):
            write(*tables, tmp_path, (1, 2))  # type: ignore[operator]


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
    pair = tmp_path / "pair.safetensors"
    assert "part 2 of 2 is done" in run(table.path, table.path, "--out", pair, "--part", "2/2").stdout
    assert '"r2"' in run(table.path, table.path, "--out", pair, "--part", "1/2", "--json").stdout
    assert "--max-dim" in str(run(table.path, table.path, "--out", pair, "--max-dim", "3").exception)
