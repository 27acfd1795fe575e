"""Probes and neighbours against slow oracles and cases with known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from rela_zoo.analysis.evaluate import extract_features, few_label_probe, knn_accuracy, linear_probe, standardise

RNG = np.random.default_rng(0)


def blobs(per_class: int, spread: float, seed: int, classes: int = 3, dim: int = 5) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    centres = np.eye(classes, dim) * 4
    labels = np.repeat(np.arange(classes), per_class)
    return (centres[labels] + spread * generator.normal(size=(len(labels), dim))).astype(np.float32), labels


def slow_knn(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    k: int,
    temperature: float,
    how: str,
) -> float:
    right = 0
    for x, y in zip(test_x.astype(float), test_y, strict=True):
        scores = []
        for z in train_x.astype(float):
            if how == "cosine":
                scores.append(float(x @ z / (np.linalg.norm(x) * np.linalg.norm(z))))
            else:
                scores.append(-float(np.linalg.norm(x - z)))
        votes: dict[int, float] = {}
        for i in sorted(range(len(scores)), key=lambda i: -scores[i])[:k]:
            weight = np.exp(scores[i] / temperature) if how == "cosine" else 1 / (-scores[i] + 1e-5)
            votes[int(train_y[i])] = votes.get(int(train_y[i]), 0.0) + weight
        right += max(sorted(votes), key=lambda label: votes[label]) == y
    return right / len(test_y)


@given(seed=st.integers(0, 10**6), k=st.integers(1, 40), how=st.sampled_from(["cosine", "euclidean"]))
@settings(max_examples=25, deadline=None)
def test_knn_against_a_loop(seed: int, k: int, how: str) -> None:
    generator = np.random.default_rng(seed)
    train_x, test_x = (
        generator.normal(size=(30, 4)).astype(np.float32),
        generator.normal(size=(13, 4)).astype(np.float32),
    )
    train_y, test_y = generator.integers(-3, 4, 30), generator.integers(-3, 4, 13)
    expected = slow_knn(train_x, train_y, test_x, test_y, k, 0.1, how)
    assert knn_accuracy(train_x, train_y, test_x, test_y, k=k, temperature=0.1, distance=how, chunk=5) == expected


def test_knn_weights_decide() -> None:
    """One very near neighbour outvotes two far ones at a low temperature, not at a high one."""
    train_x, train_y = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), np.array([0, 1, 1])
    query, label = np.array([[1.0, 0.2]]), np.array([0])
    assert knn_accuracy(train_x, train_y, query, label, k=3, temperature=0.07) == 1.0
    assert knn_accuracy(train_x, train_y, query, label, k=3, temperature=100.0) == 0.0


def test_knn_survives_a_tiny_temperature() -> None:
    x, y = blobs(10, 0.1, 0)
    assert knn_accuracy(x, y, x, y, k=5, temperature=1e-4) == 1.0


def test_linear_probe_on_separable_and_on_meaningless_features() -> None:
    train_x, train_y = blobs(40, 0.3, 1)
    test_x, test_y = blobs(40, 0.3, 2)
    assert linear_probe(train_x, train_y, test_x, test_y) == 1.0
    assert linear_probe(torch.from_numpy(train_x), torch.from_numpy(train_y), test_x, test_y) == 1.0
    noise = np.random.default_rng(3).normal(size=(400, 5))
    labels = np.random.default_rng(4).integers(0, 4, 400)
    assert 0.1 < linear_probe(noise[:200], labels[:200], noise[200:], labels[200:]) < 0.4


def test_linear_probe_does_not_care_for_scale_and_shift() -> None:
    train_x, train_y = blobs(30, 2.0, 5)
    test_x, test_y = blobs(30, 2.0, 6)
    plain = linear_probe(train_x, train_y, test_x, test_y)
    scale, shift = np.array([1e-2, 1.0, 1e3, 10.0, 5.0]), np.array([0.0, 7.0, -3.0, 0.0, 1.0])
    assert linear_probe(train_x * scale + shift, train_y, test_x * scale + shift, test_y) == pytest.approx(
        plain, abs=0.02
    )


def test_standardise_uses_the_training_set_alone_and_silences_constants() -> None:
    train_x = np.array([[0.1, 5.0], [0.1, 7.0], [0.1, 9.0]], dtype=np.float32)
    a, b = standardise(train_x, np.array([[3.0, 7.0]], dtype=np.float32))
    assert np.allclose(a[:, 1], (train_x[:, 1] - 7.0) / np.sqrt(8 / 3))
    assert np.array_equal(a[:, 0], np.zeros(3))
    assert np.array_equal(b, np.zeros((1, 2)))


def test_few_labels_draws_are_fixed_by_the_seed_and_better_with_more_labels() -> None:
    train_x, train_y = blobs(60, 3.0, 7)
    test_x, test_y = blobs(100, 3.0, 8)
    few = few_label_probe(train_x, train_y, test_x, test_y, per_class=2, draws=5, seed=1)
    assert few == few_label_probe(train_x, train_y, test_x, test_y, per_class=2, draws=5, seed=1)
    assert few.draws[:3] == few_label_probe(train_x, train_y, test_x, test_y, per_class=2, draws=3, seed=1).draws
    assert few != few_label_probe(train_x, train_y, test_x, test_y, per_class=2, draws=5, seed=2)
    assert len(set(few.draws)) > 1
    assert few.mean == pytest.approx(sum(few.draws) / 5)
    assert few_label_probe(train_x, train_y, test_x, test_y, per_class=50, draws=3).mean > few.mean


def test_few_labels_take_that_many_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    import rela_zoo.analysis.evaluate._probes as module

    train_x, train_y = blobs(20, 1.0, 9)
    seen = []
    monkeypatch.setattr(module, "linear_probe", lambda x, y, *_, **__: seen.append((x, y)) or 0.5)
    few_label_probe(train_x, train_y, train_x, train_y, per_class=4, draws=2)
    for x, y in seen:
        assert np.bincount(y).tolist() == [4, 4, 4]
        assert len(np.unique(x, axis=0)) == 12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: linear_probe(x, y[:-1], x, y), "one a row"),
        (lambda x, y: linear_probe(x, y, x[:, :2], y), "dimensions"),
        (lambda x, y: linear_probe(x, np.zeros(len(y), int), x, y), "two classes"),
        (lambda x, y: linear_probe(x * np.nan, y, x, y), "NaN"),
        (lambda x, y: linear_probe(x[0], y, x, y), r"\(N, D\)"),
        (lambda x, y: few_label_probe(x, y, x, y, per_class=11), "class 0 has 10"),
        (lambda x, y: knn_accuracy(x, y, x, y, distance="manhattan"), "manhattan"),
        (lambda x, y: knn_accuracy(x, y, x, y, k=0), "k ≥ 1"),
        (lambda x, y: knn_accuracy(x[:0], y[:0], x, y), "at least one"),
    ],
)
def test_bad_input_is_refused(call, message: str) -> None:
    x, y = blobs(10, 1.0, 0)
    with pytest.raises(ValueError, match=message):
        call(x, y)


def test_features_in_order_without_touching_the_network() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(12), torch.nn.Dropout(0.5))
    network[2].eval()
    images, labels = torch.randn(11, 3, 2, 2), torch.arange(11)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    features, targets = extract_features(network, TensorDataset(images, labels), batch_size=4)
    assert np.allclose(features, images.flatten(1).numpy() / np.sqrt(1 + 1e-5), atol=1e-6)
    assert features.dtype == np.float32
    assert targets.tolist() == list(range(11))
    assert [module.training for module in network] == [True, True, False]
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    loader = DataLoader(TensorDataset(torch.arange(11), images, labels), batch_size=3)
    assert np.array_equal(extract_features(network, loader)[0], features)
