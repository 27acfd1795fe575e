"""The streaming fit against a slow, separate PCA-and-standardise in the way of the reference."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rela_zoo.errors import TransportError
from rela_zoo.transport import TargetTransport, apply, fit_transport


def reference(rows: np.ndarray, k: int) -> np.ndarray:
    """Targets (N, k) as `_pca_reduce` of LINs-lab/ReLA at 0223046 makes them, components in rising order of variance.

    Covariance with n − 1, eigenvectors of the last k columns, then each dimension minus its mean over its population
    deviation. Written out, in float64.
    """
    count, dim = rows.shape
    mean = [sum(float(row[j]) for row in rows) / count for j in range(dim)]
    centred = rows.astype(np.float64) - np.array(mean)
    covariance = np.zeros((dim, dim))
    for row in centred:
        covariance += np.outer(row, row)
    covariance /= count - 1
    _, vectors = np.linalg.eigh(covariance)
    reduced = centred @ vectors[:, -k:]
    targets = np.empty_like(reduced)
    for j in range(k):
        column = reduced[:, j]
        centre = column.sum() / count
        deviation = np.sqrt((column**2).sum() / count - centre**2)
        targets[:, j] = (column - centre) / deviation
    return targets


def random_rows(seed: int, count: int, dim: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Correlated rows with an offset and well separated variances."""
    generator = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(generator.normal(size=(dim, dim)))
    values = (
        generator.normal(size=(count, dim)) * np.geomspace(3, 0.05, dim) @ rotation + generator.normal(size=dim) * 4
    )
    return torch.from_numpy(values).to(dtype)


@pytest.mark.parametrize("k", [1, 3, 16])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_golden_against_the_reference(k: int, dtype: torch.dtype) -> None:
    rows = random_rows(0, 700, 16, dtype)
    expected = reference(rows.double().numpy(), k)[:, ::-1]
    found = fit_transport(rows, chunk=97)(rows, k).numpy()
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found * signs, expected, atol=1e-4)


def test_the_first_columns_serve_every_width() -> None:
    rows = random_rows(1, 300, 8)
    full = fit_transport(rows)
    for k in (1, 5, 8):
        torch.testing.assert_close(full(rows, k), full(rows)[:, :k], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(fit_transport(rows, max_dim=k)(rows), full(rows)[:, :k], rtol=1e-5, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(30, 200), st.integers(1, 12))
def test_targets_are_standardised_and_uncorrelated(seed: int, count: int, dim: int) -> None:
    rows = random_rows(seed, count, dim)
    transport = fit_transport(rows, chunk=17)
    targets = transport(rows).double()
    assert transport.max_dim == dim
    np.testing.assert_allclose(targets.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(targets.T @ targets / count, np.eye(dim), atol=1e-3)
    assert (transport.scale.diff() <= 0).all()
    assert 0.999 < sum(transport.stats.explained_variance_ratio) < 1.001


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 80))
def test_neither_order_nor_pieces_matter(seed: int, chunk: int) -> None:
    rows = random_rows(seed, 60, 6)
    one = fit_transport(rows)
    shuffled = rows[torch.from_numpy(np.random.default_rng(seed).permutation(60))]
    other = fit_transport(shuffled, chunk=chunk)
    torch.testing.assert_close(other(rows), one(rows), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(other.scale, one.scale)


def test_every_kind_of_rows_gives_the_same() -> None:
    rows = random_rows(2, 100, 5)
    expected = fit_transport(rows, chunk=30)(rows)
    for kind in (rows.numpy(), list(rows.split(30)), (one for one in rows.split(30)), rows.double()):
        assert torch.equal(fit_transport(kind, chunk=30)(rows), expected)


def test_signs_follow_the_convention() -> None:
    transport = fit_transport(random_rows(3, 100, 7))
    for column in transport.components.T:
        assert column[column.abs().argmax()] > 0
    assert torch.allclose(transport.components.T @ transport.components, torch.eye(7), atol=1e-5)


class TestDegenerate:
    def test_constant_and_repeated_features(self) -> None:
        rows = random_rows(4, 200, 5)
        rows = torch.cat([rows, torch.full((200, 1), 3.7), rows[:, :2], torch.zeros(200, 1)], 1)
        with pytest.warns(UserWarning, match="5 directions only"):
            transport = fit_transport(rows)
        assert transport.components.shape == (9, 5)
        targets = transport(rows)
        assert torch.isfinite(targets).all()
        np.testing.assert_allclose(targets.std(0, correction=0), 1, atol=1e-3)

    def test_fewer_rows_than_values(self) -> None:
        with pytest.warns(UserWarning, match="9 directions only"):
            transport = fit_transport(torch.randn(10, 20, generator=torch.Generator().manual_seed(0)))
        assert transport.max_dim == 9

    def test_no_warning_when_enough_directions_are_left(self) -> None:
        rows = torch.cat([random_rows(5, 100, 4), torch.ones(100, 1)], 1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert fit_transport(rows, max_dim=3).max_dim == 3

    @pytest.mark.parametrize("value", [0.0, 3.3, 1e4])
    def test_rows_that_do_not_vary(self, value: float) -> None:
        with pytest.raises(TransportError, match="do not vary"):
            fit_transport(torch.full((50, 4), value), chunk=7)

    @pytest.mark.parametrize("count", [0, 1])
    def test_too_few_rows(self, count: int) -> None:
        with pytest.raises(TransportError, match="can't be fitted") as caught:
            fit_transport(torch.zeros(count, 4))
        assert caught.value.got == count

    def test_not_finite(self) -> None:
        rows = torch.randn(50, 4)
        rows[41, 2] = float("nan")
        with pytest.raises(TransportError, match="not finite"):
            fit_transport(rows, chunk=16)

    def test_what_are_no_rows(self) -> None:
        with pytest.raises(TransportError, match="different widths"):
            fit_transport([torch.randn(5, 4), torch.randn(5, 3)])
        with pytest.raises(TransportError, match="no rows"):
            fit_transport(torch.arange(10).view(5, 2))
        with pytest.raises(TransportError, match="no rows"):
            fit_transport(torch.randn(10))
        for wrong in ({"max_dim": 0}, {"chunk": 0}):
            with pytest.raises(TransportError, match="can't be used"):
                fit_transport(torch.randn(5, 2), **wrong)


MEMORY = """
import torch
from rela_zoo.transport import fit_transport
torch.set_num_threads(1)
def peak():
    # VmHWM, not ru_maxrss: that one begins at the size of the process that started this one
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
def rows(pieces):
    generator = torch.Generator().manual_seed(0)
    for _ in range(pieces):
        yield torch.randn(2048, 256, generator=generator)
fit_transport(rows(2))
before = peak()
fit_transport(rows(100))
print(peak() - before)
held = torch.cat(list(rows(100)))
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc")
def test_memory_does_not_grow_with_the_rows() -> None:
    """204,800 × 256 float32 is 200 MiB; the fit may take a few pieces more than it took for 4,096 rows."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, timeout=120, check=True)
    streamed, held = map(float, done.stdout.split())
    assert streamed < 30
    assert held > 180  # the measure sees what it should


def test_a_source_too_large_to_hold() -> None:
    """A million rows from a generator, in a millionth of their memory at a time."""

    def rows() -> Iterator[Tensor]:
        piece = torch.randn(10_000, 8, generator=torch.Generator().manual_seed(0))
        for _ in range(100):
            yield piece

    assert fit_transport(rows()).stats.rows == 1_000_000


def test_the_affine_form_is_the_same_map() -> None:
    rows = random_rows(6, 100, 6)
    transport = fit_transport(rows)
    torch.testing.assert_close(apply(transport.affine(4), rows), transport(rows, 4), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(apply(transport.inverse(), transport(rows)), rows, atol=1e-4, rtol=1e-4)
    # on fewer components: the orthogonal projection around the mean
    centred = rows - rows.mean(0)
    leading = transport.components[:, :2]
    projected = centred @ leading @ leading.T + rows.mean(0)
    torch.testing.assert_close(apply(transport.inverse(2), transport(rows, 2)), projected, atol=1e-4, rtol=1e-4)


def test_fit_on_a_table_keeps_where_it_came_from(tmp_path: Path) -> None:
    from types import SimpleNamespace

    rows = random_rows(7, 64, 4)
    table = SimpleNamespace(
        iter_rows=rows.split,
        digest="ab" * 32,
        info=SimpleNamespace(prior={"id": "p"}, preprocessing="upstream", identity={"id": "p", "layer": "mean"}),
    )
    transport = fit_transport(table)  # type: ignore[arg-type]
    assert (transport.stats.source_digest, transport.stats.prior) == ("ab" * 32, "p")
    assert transport.stats.identity == {"id": "p", "layer": "mean"}
    assert isinstance(transport, TargetTransport)
    assert fit_transport(rows).stats.source_digest is None
