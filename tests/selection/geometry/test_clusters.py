"""k-means cells: against known blobs, full distances, and themselves."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from rela_zoo.errors import EmbeddingsError
from rela_zoo.selection.geometry import _assign
from rela_zoo.selection.geometry._assign import assign, nearest_labels
from rela_zoo.selection.geometry._clusters import default_clusters, k_means


def blobs(count: int, members: int, dim: int = 6, spread: float = 0.05, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(count·members, dim) points around far corners, shuffled, and which corner (N,)."""
    draws = np.random.default_rng(seed)
    corners = draws.permutation(np.stack(np.unravel_index(np.arange(3**dim), [3] * dim), 1))[:count]
    which = draws.permutation(np.repeat(np.arange(count), members))
    return (corners[which] + spread * draws.normal(size=(len(which), dim))).astype(np.float32), which


class TestAssign:
    @pytest.mark.parametrize("block", [7, 4096])
    def test_against_all_distances(self, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
        monkeypatch.setattr(_assign, "_BLOCK", block)
        draws = np.random.default_rng(0)
        points, centroids = (draws.normal(size=(n, 5)).astype(np.float32) for n in (300, 17))
        every = np.linalg.norm(points[:, None].astype(np.float64) - centroids[None], axis=2)
        labels, distances = assign(points, centroids)
        assert (labels.dtype, distances.dtype) == (np.int32, np.float32)
        np.testing.assert_array_equal(labels, every.argmin(1))
        np.testing.assert_allclose(distances, every.min(1), rtol=1e-5)

    @pytest.mark.parametrize("count", [1, 3, 17])
    def test_several_nearest(self, count: int) -> None:
        draws = np.random.default_rng(0)
        points, centroids = (draws.normal(size=(n, 5)).astype(np.float32) for n in (300, 17))
        every = np.linalg.norm(points[:, None].astype(np.float64) - centroids[None], axis=2)
        labels = nearest_labels(points, centroids, count)
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(labels, every.argsort(1)[:, :count])

    def test_a_small_distance_far_from_the_origin(self) -> None:
        points = np.full((1, 64), 100, np.float32)
        near = points.copy()
        near[0, 0] += 1e-3
        assert assign(points, np.stack([np.zeros(64, np.float32), near[0]]))[1][0] == pytest.approx(1e-3, rel=0.02)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_on_a_gpu(self) -> None:
        points, _ = blobs(20, 50)
        here, there = assign(points, points[:40]), assign(points, points[:40], "cuda")
        np.testing.assert_allclose(here[1], there[1], atol=1e-5)


class TestKMeans:
    def test_finds_blobs(self) -> None:
        points, which = blobs(12, 60)
        # k-means++ may start two clusters in one blob: more clusters than blobs, and no cluster in two blobs.
        found = k_means(points, 24, seed=0)
        assert all(len(np.unique(which[found.labels == label])) == 1 for label in np.unique(found.labels))

    def test_parts_fit_together(self) -> None:
        points, _ = blobs(10, 30)
        found = k_means(points, 15, seed=3)
        assert found.labels.dtype == np.int32
        assert found.distances.dtype == found.centroids.dtype == np.float32
        own = np.linalg.norm(points - found.centroids[found.labels], axis=1)
        np.testing.assert_allclose(found.distances, own, rtol=1e-4, atol=1e-5)
        assert set(found.labels) == set(range(len(found.centroids)))

    def test_almost_as_good_as_full_k_means(self) -> None:
        from sklearn.cluster import KMeans

        points = np.random.default_rng(0).normal(size=(12_000, 8)).astype(np.float32)
        full = KMeans(20, n_init=1, random_state=0).fit(points).inertia_
        found = k_means(points, 20, seed=0)  # fitted on 5,120 of them
        assert float(np.square(found.distances).sum()) < 1.05 * full

    def test_depends_on_the_seed_alone(self) -> None:
        points = np.random.default_rng(0).normal(size=(5000, 8)).astype(np.float32)
        runs = []
        for other in (1, 2):
            np.random.seed(other)
            torch.manual_seed(other)
            runs.append(k_means(points, 10, seed=7))
        for one, again in zip(*runs, strict=True):
            np.testing.assert_array_equal(one, again)
        assert not np.array_equal(runs[0].labels, k_means(points, 10, seed=8).labels)

    def test_empty_clusters_are_left_out(self) -> None:
        points = np.repeat(np.eye(3, dtype=np.float32), 20, axis=0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = k_means(points, 10, seed=0)
        assert len(found.centroids) == 3
        assert sorted(np.bincount(found.labels)) == [20, 20, 20]
        np.testing.assert_allclose(found.distances, 0, atol=1e-6)

    @pytest.mark.parametrize("n", [1, 2, 5])
    def test_as_many_as_samples(self, n: int) -> None:
        points = np.arange(n, dtype=np.float32)[:, None] * 3
        found = k_means(points, n, seed=0)
        assert set(found.labels) == set(range(len(found.centroids)))
        assert len(found.centroids) >= (n + 1) // 2
        assert k_means(points, 1, seed=0).labels.tolist() == [0] * n

    @pytest.mark.parametrize("k", [0, 6])
    def test_out_of_range(self, k: int) -> None:
        with pytest.raises(EmbeddingsError, match="that many clusters") as caught:
            k_means(np.zeros((5, 2), np.float32), k, seed=0)
        assert "1 to 5" in str(caught.value.expected)
        assert caught.value.got == k


@pytest.mark.parametrize(
    ("n", "k"), [(1, 1), (2, 2), (3, 2), (100, 10), (50_000, 224), (1_281_167, 1132), (10**9, 4096)]
)
def test_default_number(n: int, k: int) -> None:
    assert default_clusters(n) == k
