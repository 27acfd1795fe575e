"""Train the whole network with labels, from its features' linear probe on."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from rela_zoo._io.progress import Progress
from rela_zoo.analysis.evaluate._features import checked, extract_features
from rela_zoo.analysis.evaluate._probes import LinearProbe, fit_linear_probe
from rela_zoo.errors import RelaZooError
from rela_zoo.prior import Prior

# On digits, learnt and judged within the training part, five epochs: of 1e-4 to 3e-3 this rate is the best
# for a student (94.2 % by its probe, 95.6 % so). Batch normalisation that keeps its old statistics is worse (88.9 %).
LR, WEIGHT_DECAY, BATCH_SIZE = 1e-3, 0.01, 64
# Of the steps, those in which the learning rate rises.
_WARMUP = 0.1


@dataclass(frozen=True)
class FineTuning:
    """A network trained with labels.

    Attributes:
        accuracy: on the held-out images, a fraction.
        before: the same of the linear probe that it began with.
        predictions: (M,) int, labels found for the held-out images.
        epochs: that were trained.
        network: images (B, 3, H, W) → scores (B, C), backbone and layer, in evaluation mode.
    """

    accuracy: float
    before: float
    predictions: np.ndarray
    epochs: int
    network: nn.Sequential


def fine_tune(
    backbone: nn.Module,
    train: Any,
    test: Any,
    *,
    augmented: Any = None,
    epochs: int = 10,
    lr: float = LR,
    weight_decay: float = WEIGHT_DECAY,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    progress: bool | Literal["always"] = False,
) -> FineTuning:
    """Train a copy of a network with labels, and judge it.

    The layer on top begins as the linear probe of the untouched features (Kumar et al., arXiv 2202.10054), so that the
    first steps don't spoil them; then all weights are trained by AdamW, the rate rising for a tenth of the steps and
    falling along a cosine to zero.

    Args:
        backbone: (B, 3, H, W) → (B, D), left as it is; a `Prior`, or a network whose weights can be trained.
        train: labelled images, as for `evaluate`, seen as in evaluation.
        test: held-out images.
        augmented: the same images as `train`, changed at random, to train on; `train` itself by default.
        epochs: ≥ 1.
        lr: highest learning rate.
        weight_decay: of AdamW.
        batch_size: images a step.
        seed: of order and augmentation; torch's own generator is left as it was.
        progress: as for `evaluate`.

    Returns:
        What came of it.

    Raises:
        RelaZooError: a network without weights to train, or a loss that is not finite.

    Examples:
        >>> from torch.utils.data import random_split
        >>> from torchvision.datasets import ImageFolder
        >>> from rela_zoo import fine_tune, load_prior
        >>> prior = load_prior("cifar10-resnet20")
        >>> train, test = random_split(ImageFolder("photos", transform=prior.transform), [200, 40])
        >>> found = fine_tune(prior, train, test, epochs=1)
        >>> found.epochs, found.predictions.shape
        (1, (40,))
    """
    refuse_untrainable(backbone, epochs)
    parts = [extract_features(backbone, one, progress=progress) for one in (train, test)]
    features = checked(*parts[0], *parts[1])
    images = train if augmented is None else augmented
    probe = fit_linear_probe(features[0], features[1])
    return tune(backbone, probe, features, images, test, epochs, lr, weight_decay, batch_size, seed, progress)


def refuse_untrainable(backbone: nn.Module, epochs: int) -> None:
    """What can't be fine-tuned, before any work is done."""
    if epochs < 1:
        raise RelaZooError("fine-tuning needs an epoch", expected="epochs ≥ 1", got=epochs)
    if next(backbone.parameters(), None) is None:
        raise RelaZooError(
            "this network has no weights that could be trained", expected="a torch network with parameters",
            got=type(backbone).__name__, fix="judge it by its features alone",
        )  # fmt: skip


def tune(
    backbone: nn.Module, probe: LinearProbe, features: tuple[np.ndarray, ...], train: Any, test: Any,
    epochs: int, lr: float = LR, weight_decay: float = WEIGHT_DECAY, batch_size: int = BATCH_SIZE, seed: int = 0,
    progress: bool | Literal["always"] = False,
) -> FineTuning:  # fmt: skip
    """As `fine_tune`, of a network that is not refused, from features and a probe that are there already."""
    _, _, test_x, test_y = features
    device = next(backbone.parameters()).device
    before = float(np.mean(probe.predict(test_x) == test_y))
    whole = backbone.network if isinstance(backbone, Prior) else backbone
    network = nn.Sequential(copy.deepcopy(whole), probe.as_layer()).to(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        _train(network, _shuffled(train, batch_size), probe.classes, epochs, lr, weight_decay, progress)
    scores, _ = extract_features(network, test, progress=progress)
    predictions = probe.classes[scores.argmax(axis=1)]
    return FineTuning(float(np.mean(predictions == test_y)), before, predictions, epochs, network.eval())


def _shuffled(data: Any, batch_size: int) -> DataLoader:
    """A loader of the images in a new order each epoch; a loader that is given says how they are decoded."""
    workers = data.num_workers if isinstance(data, DataLoader) else 0
    images: Any = data.dataset if isinstance(data, DataLoader) else data
    return DataLoader(
        images, batch_size=batch_size, shuffle=True, num_workers=workers, drop_last=len(images) > batch_size
    )


def _train(
    network: nn.Module, loader: DataLoader, classes: np.ndarray, epochs: int, lr: float, weight_decay: float,
    progress: bool | Literal["always"],
) -> None:  # fmt: skip
    network.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=weight_decay)
    steps = epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    device = next(network.parameters()).device
    known = torch.from_numpy(classes)
    with Progress("fine-tuning", steps, unit="steps", show=progress) as bar:
        for _ in range(epochs):
            for *_, images, labels in loader:
                # Positions among the classes; each training label is one of them.
                wanted = torch.searchsorted(known, labels.to(known.dtype)).to(device)
                loss = F.cross_entropy(network(images.to(device)).float(), wanted)
                if not torch.isfinite(loss):
                    raise RelaZooError(
                        "the loss of fine-tuning is not finite", expected="a finite number", got=loss.item(),
                        fix="lower the learning rate",
                    )  # fmt: skip
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.advance(1)


def _rate(step: int, steps: int) -> float:
    """Share of the highest learning rate: a rise, then half a cosine."""
    warm = max(1, round(_WARMUP * steps))
    return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
