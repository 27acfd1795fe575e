"""Three small priors and two small data sets: everything that a zoo is made of, in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from rela_zoo.analysis.zoo import Zoo, open_data, plan_zoo
from rela_zoo.registry import Settings

ENTRY = {
    "title": "An untrained ResNet-8",
    "source": "random",
    "family": "cifar-resnet",
    "architecture": "resnet8",
    "dim": 64,
    "licence": "not-applicable",
    "preprocessing": {"input_size": 16, "resize": 16, "interpolation": "bilinear", "mean": 0.5, "std": 0.25},
    "training_data": "none",
}
SETTINGS = Settings(sample=100, draws=2, per_class=5)


def write_images(root: Path, part: str, count: int, seed: int) -> None:
    """Noise around a colour of the class, so that classes can be told apart."""
    chance = np.random.default_rng(seed)
    for number in range(count):
        label = number % 3
        colour = np.array([(250, 60, 60), (60, 250, 60), (60, 60, 250)][label])
        pixels = np.clip(colour + chance.normal(0, 60, (16, 16, 3)), 0, 255).astype(np.uint8)
        path = root / part / f"class{label}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


@dataclass(frozen=True)
class Small:
    """Where the parts of a small zoo are."""

    root: Path

    @property
    def out(self) -> Path:
        return self.root / "zoo"

    @property
    def split(self) -> str:
        """A data set with a split to judge by."""
        return f"split={self.root / 'split'}"

    @property
    def whole(self) -> str:
        """One without."""
        return f"whole={self.root / 'whole' / 'train'}"

    @property
    def priors(self) -> list[str]:
        return ["cifar10-resnet20", str(self.root / "one.yaml"), str(self.root / "two.yaml")]

    def plan(self, data: Sequence[str] | None = None, **more: Any) -> Zoo:
        sets = [open_data(one) for one in (data or [self.split])]
        return plan_zoo(self.priors, sets, self.out, settings=SETTINGS, **more)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))
    write_images(tmp_path / "split", "train", 150, 0)
    write_images(tmp_path / "split", "test", 45, 1)
    write_images(tmp_path / "whole", "train", 120, 2)
    for seed, name in enumerate(("one", "two")):
        entry = {"id": name, **ENTRY, "seed": seed}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(entry), encoding="utf-8")
    return Small(tmp_path)
