"""Points in the principal space, against the transport itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from rela_zoo.embeddings import EmbeddingTable, write_rows
from rela_zoo.errors import EmbeddingsError
from rela_zoo.selection.geometry._principal import principal_points
from rela_zoo.transport import TargetTransport, fit_transport

ROWS, DIM = 200, 12


@pytest.fixture(scope="module")
def rows() -> Tensor:
    """Correlated, with a mean far from zero, as float16 stores them."""
    draws = torch.Generator().manual_seed(0)
    mixed = torch.randn(ROWS, DIM, generator=draws) @ torch.randn(DIM, DIM, generator=draws)
    return (mixed + 20).half()


@pytest.fixture(scope="module")
def transport(rows: Tensor) -> TargetTransport:
    return fit_transport(rows)


@pytest.fixture(scope="module")
def table(rows: Tensor, tmp_path_factory: pytest.TempPathFactory) -> EmbeddingTable:
    ids = [f"{i:03d}" for i in range(ROWS)]
    return write_rows(tmp_path_factory.mktemp("table") / "t", [rows], ids, prior={"id": "x"}, shard_rows=32)


def test_is_the_transport_without_its_division(rows: Tensor, transport: TargetTransport) -> None:
    points = principal_points(rows, None, transport, 5)
    assert points.dtype == np.float32
    assert points.flags.c_contiguous
    np.testing.assert_allclose(points, (transport(rows, 5) * transport.scale[:5]).numpy(), rtol=1e-4, atol=1e-4)


def test_keeps_distances_and_centres(rows: Tensor, transport: TargetTransport) -> None:
    points = principal_points(rows, None, transport, DIM)
    wide = rows.double().numpy()
    expected = np.linalg.norm(wide[:, None] - wide[None], axis=2)
    np.testing.assert_allclose(np.linalg.norm(points[:, None] - points[None], axis=2), expected, atol=1e-3)
    np.testing.assert_allclose(points.mean(0), 0, atol=1e-3)


@pytest.mark.parametrize("chunk", [1, 33, 1000])
def test_a_table_in_the_order_of_the_data_set(
    table: EmbeddingTable, rows: Tensor, transport: TargetTransport, chunk: int
) -> None:
    positions = np.random.default_rng(0).permutation(ROWS)[:150]
    points = principal_points(table, positions, transport, 4, chunk=chunk)
    np.testing.assert_allclose(points, principal_points(rows[positions], None, transport, 4), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(points, principal_points(rows.numpy(), positions, transport, 4, chunk=chunk))


def test_reads_each_piece_of_the_table_once_and_in_its_order(
    table: EmbeddingTable, transport: TargetTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = EmbeddingTable.rows_once
    monkeypatch.setattr(EmbeddingTable, "rows_once", lambda self, i: (seen.extend(i.tolist()), real(self, i))[1])
    principal_points(table, np.random.default_rng(1).permutation(ROWS), transport, 4, chunk=16)
    assert seen == list(range(ROWS))


def test_not_more_dimensions_than_the_transport_has(rows: Tensor, transport: TargetTransport) -> None:
    assert principal_points(rows, None, transport, 99).shape == (ROWS, DIM)
    with pytest.raises(EmbeddingsError, match="no principal component"):
        principal_points(rows, None, transport, 0)


def test_rows_of_another_prior_or_not_finite(rows: Tensor, transport: TargetTransport) -> None:
    with pytest.raises(EmbeddingsError, match="not for these rows") as caught:
        principal_points(rows[:, :5], None, transport, 4)
    assert (caught.value.expected, caught.value.got) == (f"rows of {DIM} values", "5")
    broken = rows.clone()
    broken[7, 3] = torch.nan
    with pytest.raises(EmbeddingsError, match="not finite"):
        principal_points(broken, None, transport, 4)
