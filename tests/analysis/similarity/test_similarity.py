"""Similarities against slow formulas written with N × N matrices, and against what must not change them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cross_decomposition import CCA
from sklearn.neighbors import NearestNeighbors

from rela_zoo.analysis import similarity as sim


def _rows(n: int, d: int, seed: int, shared: torch.Tensor | None = None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, d, generator=generator, dtype=torch.float64)
    if shared is None:
        return noise
    return shared @ torch.randn(shared.shape[1], d, generator=generator, dtype=torch.float64) + 0.5 * noise


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    shared = _rows(60, 5, 0)
    return _rows(60, 7, 1, shared) + 3, _rows(60, 9, 2, shared) - 1


def _rotation(d: int, seed: int) -> torch.Tensor:
    return torch.linalg.qr(_rows(d, d, seed))[0]


def _kernels(x: torch.Tensor, y: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    return (x @ x.T).numpy(), (y @ y.T).numpy()


def _slow_hsic1(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
    n = len(k)
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    one = np.ones(n)
    value = np.trace(k @ l) + one @ k @ one * (one @ l @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ l @ one)
    return float(value / (n * (n - 3)))


def test_linear_cka_is_that_of_centred_kernel_matrices(pair):
    x, y = pair
    k, l = _kernels(x, y)  # noqa: E741
    h = np.eye(len(k)) - 1 / len(k)
    k, l = h @ k @ h, h @ l @ h  # noqa: E741
    slow = (k * l).sum() / math.sqrt((k * k).sum() * (l * l).sum())
    assert sim.linear_cka(x, y) == pytest.approx(slow, abs=1e-12)


def test_debiased_cka_is_that_of_kernel_matrices_without_diagonal(pair):
    x, y = pair
    k, l = _kernels(x, y)  # noqa: E741
    slow = _slow_hsic1(k, l) / math.sqrt(_slow_hsic1(k, k) * _slow_hsic1(l, l))
    assert sim.debiased_cka(x, y) == pytest.approx(slow, abs=1e-10)


def test_only_the_debiased_cka_of_independent_rows_is_about_zero():
    values = [(sim.linear_cka(a, b), sim.debiased_cka(a, b)) for a, b in _independent()]
    biased, debiased = np.mean(values, axis=0)
    assert biased > 0.5
    assert abs(debiased) < 0.02


def _independent():
    return [(_rows(50, 100, 2 * s), _rows(50, 100, 2 * s + 1)) for s in range(40)]


def test_canonical_correlations_are_those_of_scikit_learn(pair):
    x, y = pair
    # scikit-learn's iterative algorithm, which shares nothing with a product of bases.
    model = CCA(n_components=3, max_iter=100_000, tol=1e-14).fit(x.numpy(), y.numpy())
    a, b = model.transform(x.numpy(), y.numpy())
    slow = [abs(np.corrcoef(a[:, i], b[:, i])[0, 1]) for i in range(3)]
    np.testing.assert_allclose(sim.canonical_correlations(x, y)[:3].numpy(), slow, atol=1e-6)


def test_canonical_correlations_solve_the_eigenvalue_problem(pair):
    x, y = ((rows - rows.mean(0)).numpy() for rows in pair)
    problem = np.linalg.solve(x.T @ x, x.T @ y) @ np.linalg.solve(y.T @ y, y.T @ x)
    slow = np.sqrt(np.sort(np.linalg.eigvals(problem).real)[::-1])
    np.testing.assert_allclose(sim.canonical_correlations(*pair).numpy(), slow, atol=1e-8)


def test_svcca_reduces_each_side_first(pair):
    x, y = ((rows - rows.mean(0)).numpy() for rows in pair)
    reduced = []
    for rows in (x, y):
        values, vectors = np.linalg.eigh(rows.T @ rows)
        values, vectors = values[::-1], vectors[:, ::-1]
        count = int(np.searchsorted(np.cumsum(values) / values.sum(), 0.9)) + 1
        reduced.append(torch.from_numpy(np.ascontiguousarray(rows @ vectors[:, :count])))
    slow = float(sim.canonical_correlations(*reduced).mean())
    assert sim.svcca(*pair, variance=0.9) == pytest.approx(slow, abs=1e-10)
    assert sim.svcca(*pair, variance=1.0) == pytest.approx(float(sim.canonical_correlations(*pair).mean()), abs=1e-10)


def test_pwcca_weighs_by_the_variates_of_the_first(pair):
    x, y = ((rows - rows.mean(0)).numpy() for rows in pair)
    covariance = [np.linalg.inv(np.linalg.cholesky(rows.T @ rows)) for rows in (x, y)]
    turn, rho, _ = np.linalg.svd(covariance[0] @ x.T @ y @ covariance[1].T)
    variates = x @ covariance[0].T @ turn[:, : len(rho)]
    weights = np.array([sum(abs(variates[:, i] @ x[:, j]) for j in range(x.shape[1])) for i in range(len(rho))])
    assert sim.pwcca(*pair) == pytest.approx(float((weights * rho).sum() / weights.sum()), abs=1e-10)


def test_procrustes_distance_is_what_the_best_rotation_leaves():
    x, y = _rows(40, 2, 3, _rows(40, 2, 0)), _rows(40, 2, 4, _rows(40, 2, 0))
    a, b = ((rows - rows.mean(0)) / (rows - rows.mean(0)).norm() for rows in (x, y))
    best = math.inf
    for angle in np.linspace(0, 2 * math.pi, 20_001):
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        for flip in (torch.tensor([1.0, 1.0]), torch.tensor([1.0, -1.0])):
            best = min(best, float((a - b * flip @ turn.double()).square().sum()))
    assert sim.procrustes_distance(x, y) == pytest.approx(best, abs=1e-6)


def test_mutual_knn_counts_shared_neighbours(pair):
    x, y = pair
    sets = []
    for rows in pair:
        found = NearestNeighbors(n_neighbors=6, metric="cosine").fit(rows.numpy()).kneighbors(return_distance=False)
        sets.append([set(row) for row in found])
    slow = np.mean([len(a & b) / 6 for a, b in zip(*sets, strict=True)])
    assert sim.mutual_knn(x, y, k=6, chunk=17) == pytest.approx(slow)


def test_the_same_space_is_alike_by_every_measure(pair):
    x, _ = pair
    assert sim.linear_cka(x, x) == pytest.approx(1)
    assert sim.debiased_cka(x, x) == pytest.approx(1)
    assert sim.svcca(x, x) == pytest.approx(1)
    assert sim.pwcca(x, x) == pytest.approx(1)
    assert sim.procrustes_distance(x, x) == pytest.approx(0, abs=1e-12)
    assert sim.mutual_knn(x, x, k=5) == 1


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3), shift=st.floats(-50, 50))
def test_rotation_scale_and_translation_change_nothing(seed, scale, shift):
    shared = _rows(30, 3, seed)
    x, y = _rows(30, 4, seed + 1, shared), _rows(30, 6, seed + 2, shared)
    moved = scale * y @ _rotation(6, seed) + shift
    for measure in (sim.linear_cka, sim.debiased_cka, sim.svcca, sim.pwcca, sim.procrustes_distance):
        assert measure(x, moved) == pytest.approx(measure(x, y), abs=1e-7)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_canonical_correlations_know_no_invertible_map(seed):
    shared = _rows(30, 3, seed)
    x, y = _rows(30, 4, seed + 1, shared), _rows(30, 5, seed + 2, shared)
    mapped = y @ (_rows(5, 5, seed + 3) + 4 * torch.eye(5)) + 2
    torch.testing.assert_close(
        sim.canonical_correlations(x, mapped), sim.canonical_correlations(x, y), atol=1e-6, rtol=0
    )
    assert sim.linear_cka(x, mapped) != pytest.approx(sim.linear_cka(x, y), abs=1e-9)


def test_spectrum_is_that_of_the_covariance(pair):
    x, _ = pair
    values = np.linalg.eigvalsh(np.cov(x.numpy().T))[::-1]
    np.testing.assert_allclose(sim.explained_variance(x).numpy(), values / values.sum(), atol=1e-12)
    assert sim.participation_ratio(x) == pytest.approx(values.sum() ** 2 / (values**2).sum())


def test_effective_rank_of_known_spectra():
    assert sim.effective_rank(torch.eye(16)) == pytest.approx(16, rel=1e-4)
    assert sim.effective_rank(torch.ones(20, 8)) == pytest.approx(1, abs=1e-3)
    values = np.array([4.0, 2.0, 1.0])
    shares = values / values.sum()
    assert sim.effective_rank(torch.diag(torch.tensor(values))) == pytest.approx(
        math.exp(-(shares * np.log(shares)).sum()), rel=1e-4
    )


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_two_nn_finds_the_dimension_of_a_bent_sheet(dimension):
    flat = torch.rand(3000, dimension, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bent = torch.cat([flat, flat.square(), torch.sin(flat)], dim=1) @ _rotation(3 * dimension, 1)
    assert sim.two_nn_dimension(bent) == pytest.approx(dimension, rel=0.12)


def test_what_cannot_be_compared_is_refused(pair):
    x, y = pair
    with pytest.raises(ValueError, match="60 and 59"):
        sim.linear_cka(x, y[1:])
    with pytest.raises(ValueError, match="finite"):
        sim.svcca(x, torch.full_like(y, math.nan))
    with pytest.raises(ValueError, match="at least 4"):
        sim.debiased_cka(x[:3], y[:3])
    with pytest.raises(ValueError, match="k in"):
        sim.mutual_knn(x, y, k=60)


def test_constant_rows_have_no_similarity(pair):
    x, _ = pair
    same = torch.full_like(x, 0.1)
    for measure in (sim.linear_cka, sim.debiased_cka, sim.svcca, sim.pwcca, sim.procrustes_distance):
        assert math.isnan(measure(x, same))
    assert len(sim.canonical_correlations(x, same)) == 0
    assert math.isnan(sim.participation_ratio(same))
    assert math.isnan(sim.two_nn_dimension(same))
