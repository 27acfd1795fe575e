"""Judge a network by its features, and by what fine-tuning makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rela_zoo.analysis.evaluate._features import checked, extract_features
from rela_zoo.analysis.evaluate._fine_tune import refuse_untrainable, tune
from rela_zoo.analysis.evaluate._probes import few_label_probe, fit_linear_probe, knn_accuracy

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Evaluation:
    """Accuracies on held-out images, as fractions.

    Attributes:
        probe: linear probe with all labels.
        few_label: linear probe with few labels a class, mean of several draws.
        few_label_draws: each of them.
        knn: weighted vote of the nearest neighbours by cosine.
        fine_tuned: of the whole network after training it with all labels; None where that was not asked for.
        classes: (C,) int, the labels, rising.
        confusion: (C, C) int, held-out images by class (rows) and by what the linear probe takes them for.
        features: (M, D) float32 of the held-out images.
        labels: (M,) int of the held-out images.

    Examples:
        >>> from rela_zoo import Evaluation
        >>> Evaluation(0.9, 0.8, (0.79, 0.81), 0.85).accuracies()["few_label_draws"]
        [0.79, 0.81]
    """

    probe: float
    few_label: float
    few_label_draws: tuple[float, ...]
    knn: float
    fine_tuned: float | None = None
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64), repr=False, compare=False)
    confusion: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int64), repr=False, compare=False)
    features: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32), repr=False, compare=False)
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64), repr=False, compare=False)

    def accuracies(self) -> dict[str, Any]:
        """The numbers alone, ready for JSON."""
        return {
            "probe": self.probe, "few_label": self.few_label, "few_label_draws": list(self.few_label_draws),
            "knn": self.knn, "fine_tuned": self.fine_tuned,
        }  # fmt: skip


def evaluate(
    backbone: nn.Module,
    train: Any,
    test: Any,
    *,
    per_class: int = 10,
    draws: int = 5,
    k: int = 20,
    fine_tune: int = 0,
    augmented: Any = None,
    seed: int = 0,
    progress: bool | Literal["always"] = False,
) -> Evaluation:
    """Judge a network by its features: linear probe, few-label probes, nearest neighbours; and by fine-tuning it.

    Args:
        backbone: (B, 3, H, W) → (B, D); left as it is, in the mode it came in.
        train: labelled images to learn from: a DataLoader, or a data set for one.
        test: held-out images.
        per_class: labels a class of the few-label probes, ≥ 1.
        draws: of these labels, ≥ 1.
        k: number of neighbours, ≥ 1.
        fine_tune: epochs of training a copy of the whole network with all labels; 0 leaves that out.
        augmented: the images of `train`, changed at random, for fine-tuning.
        seed: of fine-tuning.
        progress: show how far it is: True on a terminal only, "always" elsewhere, too.

    Raises:
        ValueError: a class with fewer than `per_class` images, one class only, or features that are not finite.
        RelaZooError: a network that can't be fine-tuned.

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
    if fine_tune:
        refuse_untrainable(backbone, fine_tune)
    parts = [extract_features(backbone, one, progress=progress) for one in (train, test)]
    train_x, train_y, test_x, test_y = checked(*parts[0], *parts[1])
    probe = fit_linear_probe(train_x, train_y)
    found = probe.predict(test_x)
    few = few_label_probe(train_x, train_y, test_x, test_y, per_class=per_class, draws=draws)
    classes = np.unique(np.concatenate([train_y, test_y]))
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (np.searchsorted(classes, test_y), np.searchsorted(classes, found)), 1)
    tuned = None
    if fine_tune:
        images = train if augmented is None else augmented
        everything = train_x, train_y, test_x, test_y
        tuned = tune(backbone, probe, everything, images, test, fine_tune, seed=seed, progress=progress).accuracy
    return Evaluation(
        float(np.mean(found == test_y)), few.mean, few.draws, knn_accuracy(train_x, train_y, test_x, test_y, k=k),
        tuned, classes, confusion, test_x, test_y,
    )  # fmt: skip
