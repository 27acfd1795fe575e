"""A small prior whose outputs can be worked out by hand, and images to feed it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn


def to_tensor(image: Image.Image) -> Tensor:
    """What torchvision's Resize and ToTensor do, without the seconds that importing torchvision takes."""
    return torch.from_numpy(np.array(image.resize((8, 8)))).permute(2, 0, 1).float() / 255


class FakePrior(nn.Module):
    """Mean colour of an image, times a fixed matrix: four features."""

    preprocessing = "upstream"

    def __init__(self, name: str = "fake", delay: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.dim = 4
        self.weight = nn.Parameter(torch.arange(12.0).view(3, 4) * scale, requires_grad=False)
        self.name, self.delay, self.calls = name, delay, 0
        self.transform = to_tensor

    def identity(self) -> dict[str, str | int]:
        return {"id": self.name, "layer": "mean", "revision": "0" * 40, "preprocessing_digest": "x"}

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        time.sleep(self.delay)
        return x.mean((2, 3)) @ self.weight


def pictures(count: int, size: int = 8, seed: int = 0) -> np.ndarray:
    """(count, size, size, 3) uint8, random."""
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def write_folder(root: Path, classes: dict[str, int], seed: int = 0) -> list[str]:
    """PNG images in class folders ("" for the root itself) → sorted relative paths."""
    written = []
    for number, (name, count) in enumerate(classes.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i, pixels in enumerate(pictures(count, seed=seed * 100 + number)):
            Image.fromarray(pixels).save(root / name / f"{i:03d}.png")
            written.append(f"{name}/{i:03d}.png".lstrip("/"))
    return sorted(written)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones too, with its bytes."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def make_prior() -> type[FakePrior]:
    return FakePrior


@pytest.fixture
def make_pictures() -> Any:
    return pictures


@pytest.fixture
def make_folder() -> Any:
    return write_folder


@pytest.fixture
def files_of() -> Any:
    return snapshot
