"""How good are features? Linear probes, probes with few labels, and nearest neighbours.

All accuracies are fractions in [0, 1]. Features are (N, D) float arrays or tensors, labels (N,) integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from torch import nn

Array = Any


def _features(x: Array) -> np.ndarray:
    x = x.detach().cpu().numpy() if hasattr(x, "detach") else np.asarray(x)
    if x.ndim != 2 or not np.issubdtype(x.dtype, np.number):
        raise ValueError(f"expected features (N, D), got an array of shape {x.shape} and type {x.dtype}")
    if not np.isfinite(x).all():
        raise ValueError("the features contain NaN or infinite values; the network diverged, or its input is damaged")
    return x.astype(np.float32, copy=False)


def _labels(y: Array, count: int) -> np.ndarray:
    y = y.detach().cpu().numpy() if hasattr(y, "detach") else np.asarray(y)
    if y.shape != (count,):
        raise ValueError(f"expected {count} labels, one a row of the features, got shape {y.shape}")
    return y.astype(np.int64, copy=False)


def _checked(train_x: Array, train_y: Array, test_x: Array, test_y: Array) -> tuple[np.ndarray, ...]:
    a, b = _features(train_x), _features(test_x)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"training features have {a.shape[1]} dimensions, test features {b.shape[1]}")
    if not len(a) or not len(b):
        raise ValueError("expected at least one training and one test sample")
    return a, _labels(train_y, len(a)), b, _labels(test_y, len(b))


def extract_features(
    backbone: nn.Module,
    data: Any,
    *,
    batch_size: int = 256,
    device: str | None = None,
    num_workers: int = 0,
    progress: bool | Literal["always"] = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Features of a whole data set, in its order.

    Args:
        backbone: (B, 3, H, W) → (B, D); put back into the mode and onto the device it came in.
        data: a DataLoader, or a data set for one. Items are (image, target) or (index, image, target).
        batch_size: of the loader made for a data set.
        device: where to compute; the backbone's own by default.
        num_workers: of the loader made for a data set.
        progress: show how far it is, as `rela_zoo._io.progress` has it.

    Returns:
        Features (N, D) float32 and targets (N,) int64.
    """
    import torch
    from torch.utils.data import DataLoader

    from rela_zoo._io.progress import Progress

    if not isinstance(data, DataLoader):
        data = DataLoader(data, batch_size=batch_size, shuffle=False, num_workers=num_workers)
    parameter = next(backbone.parameters(), None)
    home = torch.device("cpu") if parameter is None else parameter.device
    target_device = torch.device(device) if device is not None else home
    training = {name: module.training for name, module in backbone.named_modules()}
    features, targets = [], []
    backbone.eval().to(target_device)
    try:
        total = len(data.dataset) if progress else 0
        with torch.inference_mode(), Progress("features", total, unit="images", show=progress) as bar:
            for *_, images, labels in data:
                features.append(backbone(images.to(target_device)).float().cpu())
                targets.append(labels)
                bar.advance(len(labels))
    finally:
        backbone.to(home)
        for name, module in backbone.named_modules():
            module.training = training[name]
    return torch.cat(features).numpy(), torch.cat(targets).numpy().astype(np.int64)


def standardise(train_x: np.ndarray, test_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sets shifted and scaled by the training set's mean and standard deviation; constant dimensions become 0."""
    mean, std = train_x.mean(axis=0, dtype=np.float64), train_x.std(axis=0, dtype=np.float64)
    # Rounding leaves a constant dimension a tiny deviation, by which a shifted test set must not be divided.
    scale = np.where(std > 1e-6 * np.maximum(np.abs(mean), 1e-6), 1.0 / np.where(std > 0, std, 1.0), 0.0)
    return ((train_x - mean) * scale).astype(np.float32), ((test_x - mean) * scale).astype(np.float32)


def linear_probe(
    train_x: Array, train_y: Array, test_x: Array, test_y: Array, *, C: float = 1.0, max_iter: int = 1000
) -> float:
    """Accuracy of a logistic regression on standardised features (scikit-learn, L-BFGS, L2).

    Args:
        train_x: (N, D) float.
        train_y: (N,) int, at least two classes.
        test_x: (M, D) float.
        test_y: (M,) int.
        C: inverse strength of the L2 penalty.
        max_iter: of L-BFGS.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    train_x, train_y, test_x, test_y = _checked(train_x, train_y, test_x, test_y)
    if len(np.unique(train_y)) < 2:
        raise ValueError("expected training labels of at least two classes, got one")
    train_x, test_x = standardise(train_x, test_x)
    with warnings.catch_warnings():
        # A probe stopped at max_iter is a fair probe.
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe = LogisticRegression(C=C, max_iter=max_iter).fit(train_x, train_y)
    return float(probe.score(test_x, test_y))


@dataclass(frozen=True)
class Evaluation:
    """Accuracies of a network's features on held-out images, as fractions.

    Attributes:
        probe: linear probe with all labels.
        few_label: linear probe with few labels a class, mean of several draws.
        few_label_draws: each of them.
        knn: weighted vote of the nearest neighbours by cosine.
    """

    probe: float
    few_label: float
    few_label_draws: tuple[float, ...]
    knn: float


def evaluate(
    backbone: nn.Module,
    train: Any,
    test: Any,
    *,
    per_class: int = 10,
    draws: int = 5,
    k: int = 20,
    progress: bool | Literal["always"] = False,
) -> Evaluation:
    """Judge a frozen network by its features: linear probe, few-label probes and nearest neighbours.

    Args:
        backbone: (B, 3, H, W) → (B, D); put back into the mode it came in.
        train: labelled images to learn from: a DataLoader, or a data set for one.
        test: held-out images.
        per_class: labels a class of the few-label probes, ≥ 1.
        draws: of these labels, ≥ 1.
        k: number of neighbours, ≥ 1.
        progress: show how far it is: True on a terminal only, "always" elsewhere, too.

    Raises:
        ValueError: a class with fewer than `per_class` images, one class only, or features that are not finite.

    Examples:
        >>> from torch.utils.data import random_split
        >>> from torchvision.datasets import ImageFolder
        >>> from rela_zoo import evaluate, load_prior
        >>> prior = load_prior("cifar10-resnet20")
        >>> train, test = random_split(ImageFolder("photos", transform=prior.transform), [200, 40])
        >>> found = evaluate(prior, train, test)
        >>> 0 <= found.knn <= 1
        True
    """
    parts = [extract_features(backbone, one, progress=progress) for one in (train, test)]
    features = *parts[0], *parts[1]
    few = few_label_probe(*features, per_class=per_class, draws=draws)
    return Evaluation(linear_probe(*features), few.mean, few.draws, knn_accuracy(*features, k=k))


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
    train_x, train_y, test_x, test_y = _checked(train_x, train_y, test_x, test_y)
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
    train_x, train_y, test_x, test_y = _checked(train_x, train_y, test_x, test_y)
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
