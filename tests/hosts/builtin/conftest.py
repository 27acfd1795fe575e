"""A tiny image folder, and configurations small enough for a test."""

from __future__ import annotations

import copy
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

# Read by tests as `tiny_builtin`.
sys.path.insert(0, str(Path(__file__).parent))

CLASSES = ("apple", "bee", "cat")


def write_folder(root: Path, per_class: int, seed: int, classes: tuple[str, ...] = CLASSES) -> Path:
    """Images 24 px wide whose colour depends on the class."""
    generator = np.random.default_rng(seed)
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            pixels = generator.integers(0, 120, (24, 24, 3))
            pixels[..., label % 3] += 130
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{i:02d}.png")
    return root


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train (3 × 8 images) and val (3 × 3)."""
    root = tmp_path_factory.mktemp("images")
    write_folder(root / "train", 8, seed=0)
    write_folder(root / "val", 3, seed=1)
    return root


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))
    # Bitwise comparisons with child processes need the same number of threads.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    os.environ.pop("PL_GLOBAL_SEED", None)


def view(size: int = 16, crops: int = 2) -> dict[str, Any]:
    """A cheap random view."""
    return {
        "rrc": {"enabled": True, "crop_min_scale": 0.3, "crop_max_scale": 1.0},
        "color_jitter": {"prob": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1},
        "horizontal_flip": {"prob": 0.5},
        "crop_size": size,
        "num_crops": crops,
    }


# Random depth makes training depend on torch's generator, which a resumed run has to find in the same state.
TINY_VIT = {
    "name": "vit_tiny",
    "kwargs": {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "drop_path_rate": 0.2},
}


@pytest.fixture
def config(folders: Path, tmp_path: Path) -> dict[str, Any]:
    """BYOL on the tiny folder: 3 steps an epoch."""
    return {
        "name": "test",
        "method": "byol",
        "backbone": copy.deepcopy(TINY_VIT),
        "method_kwargs": {"proj_hidden_dim": 32, "proj_output_dim": 16, "pred_hidden_dim": 32},
        "momentum": {"base_tau": 0.9, "final_tau": 1.0},
        "data": {"dataset": "custom", "train_path": str(folders / "train"), "val_path": None, "num_workers": 0},
        "augmentations": [view()],
        "optimizer": {"name": "adamw", "batch_size": 8, "lr": 0.05, "classifier_lr": 0.05, "weight_decay": 1e-4},
        "scheduler": {"name": "warmup_cosine", "warmup_epochs": 1},
        "checkpoint": {"enabled": True, "dir": str(tmp_path / "trained")},
        "max_epochs": 2,
        "accelerator": "cpu",
        "devices": "1",
        "seed": 3,
        "enable_progress_bar": False,
    }


@pytest.fixture
def make_view() -> Any:
    """`view`, for tests that compose their own lists."""
    return view
