"""Judging: the same whether images are held in memory or decoded anew."""

from __future__ import annotations

import numpy as np
import pytest
from experiments import _watch
from torch import nn

from rela_zoo.data import image_source
from rela_zoo.data.datasets import ImageDataset


class Labelled:
    """Images of noise whose brightness tells the class, as a data set of torchvision's holds them."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.targets = [i % 2 for i in range(40)]
        noise = rng.integers(0, 150, (40, 12, 12, 3))
        self.data = (noise + 60 * np.array(self.targets)[:, None, None, None]).astype(np.uint8)
        self.classes = ["dark", "bright"]


def test_in_memory_and_from_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = (ImageDataset(image_source(Labelled(seed))) for seed in (0, 1))
    network = nn.Sequential(nn.AvgPool2d(4), nn.Flatten())
    settings = 8, [0.5] * 3, [0.25] * 3
    held = _watch.HeldOut(train, test, *settings)(network)
    monkeypatch.setattr(_watch, "_LARGE", 4)
    assert _watch.HeldOut(train, test, *settings)(network) == held
    assert held["linear_accuracy"] > 0.8
