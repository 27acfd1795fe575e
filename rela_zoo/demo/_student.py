"""How the demo judges a network: probes and nearest neighbours on held-out images."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from rela_zoo.analysis.evaluate import extract_features, few_label_probe, knn_accuracy, linear_probe
from rela_zoo.embeddings import EmbeddingTable

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class HeldOut:
    """All images, decoded once: (N, 3, H, W) float32, and their labels (N,) int64."""

    train: Tensor
    train_labels: np.ndarray
    val: Tensor
    val_labels: np.ndarray


def read_held_out(train: Path, val: Path) -> HeldOut:
    """Read both image folders, prepared for the student."""
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    prepare = transforms.Compose([transforms.ToTensor(), transforms.Normalize(_MEAN, _STD)])
    parts: list[Any] = []
    for folder in (train, val):
        dataset = ImageFolder(str(folder), transform=prepare)
        parts += [torch.stack([image for image, _ in dataset]), np.asarray(dataset.targets)]
    return HeldOut(*parts)


@dataclass(frozen=True)
class Scores:
    """Accuracies on held-out images, as fractions; and their features (N, D)."""

    probe: float
    few_label: float
    few_label_draws: tuple[float, ...]
    knn: float
    features: np.ndarray


def _features(network: nn.Module, images: Tensor, labels: np.ndarray) -> np.ndarray:
    return extract_features(network, TensorDataset(images, torch.from_numpy(labels)))[0]


def score(network: nn.Module, held_out: HeldOut, *, draws: int) -> Scores:
    """Probe a network: all labels, 10 labels a class (mean of several draws), and 20 nearest neighbours."""
    x, x_val = (_features(network, *part) for part in ((held_out.train, held_out.train_labels),
                                                       (held_out.val, held_out.val_labels)))  # fmt: skip
    return score_features(x, held_out.train_labels, x_val, held_out.val_labels, draws=draws)


def score_table(train: EmbeddingTable, val: EmbeddingTable, *, draws: int) -> Scores:
    """Probe a prior by its embeddings of both image folders; the first part of a sample's id is its class."""
    parts: list[np.ndarray] = []
    names = sorted({one.split("/")[0] for one in train.ids})
    for table in (train, val):
        rows = table.rows(range(len(table.ids))).float().numpy()
        parts += [rows, np.asarray([names.index(one.split("/")[0]) for one in table.ids])]
    return score_features(*parts, draws=draws)


def score_features(x: np.ndarray, y: np.ndarray, x_val: np.ndarray, y_val: np.ndarray, *, draws: int) -> Scores:
    """The same from features (N, D) and labels (N,) of both parts."""
    few = few_label_probe(x, y, x_val, y_val, per_class=10, draws=draws)
    return Scores(
        probe=linear_probe(x, y, x_val, y_val),
        few_label=few.mean,
        few_label_draws=tuple(few.draws),
        knn=knn_accuracy(x, y, x_val, y_val),
        features=x_val,
    )


class Watch(Callback):
    """Notes the few-label accuracy against the samples seen, every so many epochs and at the end.

    Args:
        held_out: images to judge by.
        every: epochs between two points.
        draws: of the labels.

    Attributes:
        points: (samples seen, accuracy in [0, 1]).
        seconds: spent here, so that it can be taken off the time of training.
    """

    def __init__(self, held_out: HeldOut, *, every: int, draws: int) -> None:
        self._held_out, self._every, self._draws = held_out, every, draws
        self.points: list[tuple[int, float]] = []
        self.seconds = 0.0

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        epoch = trainer.current_epoch + 1
        if epoch % self._every and epoch != trainer.max_epochs:
            return
        started = time.monotonic()
        held_out = self._held_out
        x = _features(pl_module.backbone, held_out.train, held_out.train_labels)
        x_val = _features(pl_module.backbone, held_out.val, held_out.val_labels)
        few = few_label_probe(x, held_out.train_labels, x_val, held_out.val_labels, draws=self._draws)
        per_epoch = trainer.num_training_batches * trainer.train_dataloader.batch_size
        self.points.append((epoch * per_epoch, float(few.mean)))
        self.seconds += time.monotonic() - started

    def state_dict(self) -> dict[str, Any]:
        return {"points": self.points, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.points, self.seconds = [tuple(p) for p in state_dict["points"]], state_dict["seconds"]
