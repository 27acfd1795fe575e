"""How good are features? Linear probes, probes with few labels, and nearest neighbours.

All accuracies are fractions in [0, 1]. Features are (N, D) float arrays or tensors, labels (N,) integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rela_zoo.analysis.evaluate._features import Array, apply_standard, checked, standard

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression
    from torch import nn


@dataclass(frozen=True)
class LinearProbe:
    """A logistic regression on standardised features.

    Attributes:
        model: scikit-learn's.
        mean, scale: (D,) float64, by which features are standardised: those of the training set.
    """

    model: LogisticRegression
    mean: np.ndarray
    scale: np.ndarray

    @property
    def classes(self) -> np.ndarray:
        """(C,) int, the labels that it tells apart, rising."""
        return self.model.classes_

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Features (N, D) float → labels (N,) int."""
        return self.model.predict(apply_standard(x, self.mean, self.scale))

    def as_layer(self) -> nn.Linear:
        """The same decisions as a layer over features as they are: (B, D) → (B, C), one output a class."""
        import torch

        weight, bias = (
            self.model.coef_ * self.scale,
            self.model.intercept_ - (self.model.coef_ * self.scale) @ self.mean,
        )
        if len(weight) == 1:  # two classes: the second one's log odds
            weight, bias = np.vstack([np.zeros_like(weight), weight]), np.concatenate([[0.0], bias])
        layer = torch.nn.utils.skip_init(torch.nn.Linear, weight.shape[1], len(weight))
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
        return layer


def fit_linear_probe(train_x: np.ndarray, train_y: np.ndarray, *, C: float = 1.0, max_iter: int = 1000) -> LinearProbe:
    """Fit a logistic regression on standardised features (scikit-learn, L-BFGS, L2).

    Args:
        train_x: (N, D) float.
        train_y: (N,) int, at least two classes.
        C: inverse strength of the L2 penalty.
        max_iter: of L-BFGS.

    Raises:
        ValueError: one class only.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(train_y)) < 2:
        raise ValueError("expected training labels of at least two classes, got one")
    mean, scale = standard(train_x)
    with warnings.catch_warnings():
        # A probe stopped at max_iter is a fair probe.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=C, max_iter=max_iter).fit(apply_standard(train_x, mean, scale), train_y)
    return LinearProbe(model, mean, scale)


def linear_probe(
    train_x: Array, train_y: Array, test_x: Array, test_y: Array, *, C: float = 1.0, max_iter: int = 1000
) -> float:
    """Accuracy of a logistic regression on standardised features, as `fit_linear_probe` has it.

    Args:
        train_x: (N, D) float.
        train_y: (N,) int, at least two classes.
        test_x: (M, D) float.
        test_y: (M,) int.
        C: inverse strength of the L2 penalty.
        max_iter: of L-BFGS.
    """
    train_x, train_y, test_x, test_y = checked(train_x, train_y, test_x, test_y)
    found = fit_linear_probe(train_x, train_y, C=C, max_iter=max_iter).predict(test_x)
    return float(np.mean(found == test_y))


@dataclass(frozen=True)
class FewLabelResult:
    """Accuracies of several draws of few labels: their mean, and each of them."""

    mean: float
    draws: tuple[float, ...]


def few_label_probe(
    train_x: Array,
    train_y: Array,
    test_x: Array,
    test_y: Array,
    *,
    per_class: int = 10,
    draws: int = 5,
    seed: int = 0,
    C: float = 1.0,
) -> FewLabelResult:
    """Accuracy of `linear_probe` with `per_class` labels of each class, over several random draws of them.

    Args:
        train_x: (N, D) float, from which the labelled samples are drawn without replacement.
        train_y: (N,) int.
        test_x: (M, D) float.
        test_y: (M,) int.
        per_class: labels a class, ≥ 1.
        draws: number of draws, ≥ 1.
        seed: of the draws; draw i is the same whatever the number of draws, and the same for every network.
        C: inverse strength of the L2 penalty.

    Raises:
        ValueError: if a class has fewer than `per_class` samples.
    """
    train_x, train_y, test_x, test_y = checked(train_x, train_y, test_x, test_y)
    if per_class < 1 or draws < 1:
        raise ValueError(f"expected per_class ≥ 1 and draws ≥ 1, got {per_class} and {draws}")
    classes, counts = np.unique(train_y, return_counts=True)
    if counts.min() < per_class:
        rare = classes[counts.argmin()]
        raise ValueError(f"class {rare} has {counts.min()} training samples, per_class={per_class} asks for more")
    accuracies = []
    for draw in range(draws):
        generator = np.random.default_rng([seed, draw])
        chosen = np.concatenate(
            [generator.permutation(np.flatnonzero(train_y == label))[:per_class] for label in classes]
        )
        accuracies.append(linear_probe(train_x[chosen], train_y[chosen], test_x, test_y, C=C))
    return FewLabelResult(float(np.mean(accuracies)), tuple(accuracies))


def knn_accuracy(
    train_x: Array,
    train_y: Array,
    test_x: Array,
    test_y: Array,
    *,
    k: int = 20,
    temperature: float = 0.07,
    distance: str = "cosine",
    chunk: int = 1024,
) -> float:
    """Accuracy of a weighted vote of the k nearest training samples.

    `cosine`: neighbours by cosine, a vote counts exp(cosine / temperature), as in Wu et al. (arXiv 1805.01978,
    section 3.4) and in DINO's and solo-learn's evaluations. `euclidean`: a vote counts 1 / (distance + 1e-5), as in
    solo-learn. Ties go to the smaller label.

    Args:
        train_x: (N, D) float; a tensor's device is where distances are computed.
        train_y: (N,) int.
        test_x: (M, D) float.
        test_y: (M,) int.
        k: number of neighbours, ≥ 1; all training samples if there are fewer.
        temperature: > 0, of the cosine votes.
        distance: `cosine` or `euclidean`.
        chunk: test samples at a time, which bounds the memory.
    """
    import torch
    import torch.nn.functional as F

    if distance not in ("cosine", "euclidean"):
        raise ValueError(f"expected distance 'cosine' or 'euclidean', got {distance!r}")
    if k < 1:
        raise ValueError(f"expected k ≥ 1, got {k}")
    device = train_x.device if isinstance(train_x, torch.Tensor) else torch.device("cpu")
    train_x, train_y, test_x, test_y = checked(train_x, train_y, test_x, test_y)
    bank, queries = torch.from_numpy(train_x).to(device), torch.from_numpy(test_x).to(device)
    if distance == "cosine":
        bank, queries = F.normalize(bank, dim=1), F.normalize(queries, dim=1)
    # Any integers may be labels; votes are counted by rank among those seen in training.
    labels, positions = np.unique(train_y, return_inverse=True)
    ranks = torch.from_numpy(positions.reshape(-1)).to(device)
    right = 0
    for start in range(0, len(queries), chunk):
        part = queries[start : start + chunk]
        if distance == "cosine":
            near = (part @ bank.T).topk(min(k, len(bank)), dim=1)
            # Shifted by the best cosine, so that a small temperature doesn't overflow; the order stays.
            weights = ((near.values - near.values[:, :1]).double() / temperature).exp()
        else:
            near = torch.cdist(part, bank).topk(min(k, len(bank)), dim=1, largest=False)
            weights = 1.0 / (near.values.double() + 1e-5)
        votes = torch.zeros(len(part), len(labels), dtype=torch.float64, device=device)
        votes.scatter_add_(1, ranks[near.indices], weights)
        right += int((labels[votes.argmax(dim=1).cpu().numpy()] == test_y[start : start + chunk]).sum())
    return right / len(test_y)
