"""Near-duplicates against leader clustering done pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rela_zoo.errors import EmbeddingsError
from rela_zoo.selection.geometry import _duplicates
from rela_zoo.selection.geometry._duplicates import near_duplicates


def pair_by_pair(points: np.ndarray, labels: np.ndarray, threshold: float) -> list[set[int]]:
    """The groups, in float64 and with loops only."""
    wide = points.astype(np.float64)
    each = labels.reshape(len(points), -1)
    leader = list(range(len(wide)))
    for label in sorted(set(each.ravel().tolist())):
        members = [i for i in range(len(wide)) if label in each[i] and leader[i] == i]
        mean = wide[members].mean(0) if members else 0
        members.sort(key=lambda i: -np.linalg.norm(wide[i] - mean))
        led: list[int] = []
        for i in members:
            alone = leader.count(i) == 1
            near = [
                j for j in led if wide[i] @ wide[j] >= threshold * np.linalg.norm(wide[i]) * np.linalg.norm(wide[j])
            ]
            if alone and near:
                leader[i] = near[0]
            else:
                led.append(i)
    return [{i for i, one in enumerate(leader) if one == first} for first in sorted(set(leader))]


def as_sets(groups: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(groups == group).tolist()) for group in np.unique(groups)}


@pytest.mark.parametrize("block", [1, 3, 64, 1024])
@pytest.mark.parametrize("threshold", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("each", [1, 2, 3])
def test_against_pairs(each: int, threshold: float, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_duplicates, "_BLOCK", block)
    draws = np.random.default_rng(0)
    first = draws.normal(size=(120, 4))
    # A crowd of directions, some with companions near enough for one threshold and not for another.
    points = np.concatenate([first, first[:60] + 0.1 * draws.normal(size=(60, 4)), first[:30] * 2])
    points = draws.permutation(points).astype(np.float32)
    labels = np.stack([draws.permutation(5)[:each] for _ in points])
    labels = labels[:, 0] if each == 1 else labels
    found = near_duplicates(points, labels, threshold)
    assert found.dtype == np.int32
    expected = pair_by_pair(points, labels, threshold)
    assert as_sets(found) == {frozenset(group) for group in expected}
    assert len(expected) < len(points)


def test_numbered_by_first_members() -> None:
    points = np.array([[1, 0], [0, 1], [2, 0.001], [-1, 0], [0, 3]], np.float32)
    assert near_duplicates(points, np.zeros(5, int), 0.99).tolist() == [0, 1, 0, 2, 1]


def test_only_within_clusters() -> None:
    points = np.ones((4, 3), np.float32)
    assert near_duplicates(points, np.array([4, 9, 4, 9]), 0.9).tolist() == [0, 1, 0, 1]


def test_a_pair_that_clusters_parted() -> None:
    points = np.array([[1, 0.01], [1, 0], [0, 1], [1, -0.01]], np.float32)
    assert near_duplicates(points, np.array([0, 1, 1, 2]), 0.9).tolist() == [0, 1, 2, 3]
    assert near_duplicates(points, np.array([[0, 1], [1, 2], [1, 0], [2, 1]]), 0.9).tolist() == [0, 0, 1, 0]


def test_who_is_followed_joins_nobody() -> None:
    """3 joins 0 in the first cluster; in the second 0 is near 1, which comes first, and keeps its own group."""
    angles = np.radians([0, 20, 90, -20])
    points = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32) * [[1], [3], [1], [0.9]]
    labels = np.array([[0, 1], [1, 2], [1, 2], [0, 2]])
    assert near_duplicates(points.astype(np.float32), labels, 0.9).tolist() == [0, 1, 2, 0]


def test_exact_copies_at_a_threshold_of_one() -> None:
    some = np.random.default_rng(0).normal(size=(50, 64)).astype(np.float32)
    points = np.tile(some, (4, 1))
    assert near_duplicates(points, np.zeros(200, int), 1.0).tolist() == list(range(50)) * 4


def test_zero_is_a_duplicate_of_nothing() -> None:
    points = np.array([[0, 0], [1, 1], [0, 0], [1, 1.001], [0, 0]], np.float32)
    assert near_duplicates(points, np.zeros(5, int), 0.01).tolist() == [0, 1, 2, 1, 3]


def test_a_chain_is_not_one_group() -> None:
    angles = np.radians(np.arange(0, 180, 5))  # each 5° from the next
    points = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    groups = near_duplicates(points, np.zeros(len(points), int), float(np.cos(np.radians(6))))
    for group in np.unique(groups):
        own = angles[groups == group]
        assert np.degrees(own.max() - own.min()) <= 2 * 6 + 1e-3


def test_every_sample_alone() -> None:
    points = np.eye(5, dtype=np.float32)
    assert near_duplicates(points, np.zeros(5, int), 0.5).tolist() == list(range(5))
    assert near_duplicates(points, np.arange(5), 0.5).tolist() == list(range(5))
    assert near_duplicates(points[:0], np.arange(0), 0.5).tolist() == []


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5, float("nan")])
def test_bad_threshold(threshold: float) -> None:
    with pytest.raises(EmbeddingsError, match="bad threshold"):
        near_duplicates(np.ones((2, 2), np.float32), np.zeros(2, int), threshold)


def test_labels_of_other_points() -> None:
    with pytest.raises(EmbeddingsError, match="do not fit together"):
        near_duplicates(np.ones((3, 2), np.float32), np.zeros(2, int), 0.9)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu() -> None:
    points = np.random.default_rng(0).normal(size=(3000, 3)).astype(np.float32)
    labels = np.arange(3000) % 2
    here = near_duplicates(points, labels, 0.99)
    assert abs(int(here.max()) - int(near_duplicates(points, labels, 0.99, device="cuda").max())) <= 3
