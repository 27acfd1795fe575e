"""k-centre cells against the traversal done one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from rela_zoo.errors import EmbeddingsError
from rela_zoo.selection.geometry import _centres
from rela_zoo.selection.geometry._centres import k_centres


def points_of(n: int, dim: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def one_by_one(points: np.ndarray, m: int, first: int) -> tuple[list[int], np.ndarray]:
    """Gonzalez, written down: centres and (N, m) distances, in float64."""
    wide = points.astype(np.float64)
    centres = [first]
    distances = np.linalg.norm(wide - wide[first], axis=1)[:, None]
    while len(centres) < m:
        centres.append(int(distances.min(1).argmax()))
        distances = np.c_[distances, np.linalg.norm(wide - wide[centres[-1]], axis=1)]
    return centres, distances


@pytest.mark.parametrize("dim", [1, 2, 16])
@pytest.mark.parametrize("candidates", [1, 2, 50, 10_000])
def test_is_the_greedy_choice_however_many_a_pass(dim: int, candidates: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_centres, "_BLOCK", 128)
    points = points_of(700, dim)
    found = k_centres(points, 40, seed=3, candidates=candidates)
    centres, distances = one_by_one(points, 40, int(found.centres[0]))
    assert found.centres.tolist() == centres
    np.testing.assert_array_equal(found.labels, distances.argmin(1))
    np.testing.assert_allclose(found.distances, distances.min(1), rtol=1e-5, atol=1e-6)
    assert found.radius == pytest.approx(distances.min(1).max(), rel=1e-5)
    assert (found.labels.dtype, found.distances.dtype, found.centres.dtype) == (np.int32, np.float32, np.int64)


def test_a_pass_serves_several_centres(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    real = _centres._update

    def counted(*parts: object) -> None:
        passes.append(len(parts[4]))  # type: ignore[arg-type]
        real(*parts)  # type: ignore[arg-type]

    monkeypatch.setattr(_centres, "_update", counted)
    k_centres(points_of(5000, 16), 500, seed=0)
    assert sum(passes) == 500
    assert len(passes) < 50


def test_within_twice_the_best() -> None:
    points = points_of(12, 2)
    every = np.linalg.norm(points[:, None] - points[None], axis=2)
    best = min(every[:, list(some)].min(1).max() for some in itertools.combinations(range(12), 3))
    for seed in range(5):
        assert k_centres(points, 3, seed).radius <= 2 * best + 1e-6


def test_centres_of_a_sample_cover_everything() -> None:
    points = points_of(3000, 4)
    found = k_centres(points, 50, seed=1, sample=500)
    assert len(set(found.centres)) == 50
    every = np.linalg.norm(points[:, None] - points[found.centres][None], axis=2)
    np.testing.assert_array_equal(found.labels, every.argmin(1))
    np.testing.assert_allclose(found.radius, every.min(1).max(), rtol=1e-5)
    assert found.radius < 1.5 * k_centres(points, 50, seed=1).radius


def test_copies_are_no_centres_of_their_own() -> None:
    points = np.repeat(1 + 1e-2 * points_of(9, 64), 30, axis=0)
    found = k_centres(points, 40, seed=0)
    assert len(found.centres) == 9
    assert found.radius == 0
    assert np.bincount(found.labels).tolist() == [30] * 9
    assert k_centres(np.zeros((5, 2), np.float32), 3, seed=0).labels.tolist() == [0] * 5


def test_no_centre_twice_where_rounding_is_large() -> None:
    found = k_centres(np.repeat(1000 + 1e-2 * points_of(9, 64), 30, axis=0), 40, seed=0)
    assert len(set(found.centres)) == len(found.centres) <= 40
    assert found.labels[found.centres].tolist() == list(range(len(found.centres)))


def test_every_sample_its_own_centre() -> None:
    points = points_of(20, 3)
    found = k_centres(points, 20, seed=0)
    assert sorted(found.centres) == list(range(20))
    np.testing.assert_array_equal(found.centres[found.labels], np.arange(20))


def test_depends_on_the_seed_alone() -> None:
    points = points_of(2000, 8)
    runs = []
    for other in (1, 2):
        np.random.seed(other)
        torch.manual_seed(other)
        runs.append(k_centres(points, 30, seed=7, sample=1500))
    for one, again in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, again)
    assert runs[0].centres.tolist() != k_centres(points, 30, seed=8, sample=1500).centres.tolist()
    # Golden: a cached file and a run without one must agree with those of other versions.
    assert k_centres(points, 6, seed=7).centres.tolist() == one_by_one(points, 6, 1889)[0]


@pytest.mark.parametrize(("n", "m"), [(5, 0), (5, 6), (5000, 4097)])
def test_out_of_range(n: int, m: int) -> None:
    with pytest.raises(EmbeddingsError, match="that many centres") as caught:
        k_centres(np.zeros((n, 2), np.float32), m, seed=0)
    assert caught.value.got == m


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu() -> None:
    points = points_of(3000, 8)
    assert k_centres(points, 50, 0, device="cuda").centres.tolist() == k_centres(points, 50, 0).centres.tolist()
