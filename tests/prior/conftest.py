"""Every test of this room has its own place for weights, and no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from rela_zoo.registry import PriorSpec


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("RELA_ZOO_HOME", str(folder))

    def refuse(*args: Any, **kwargs: Any) -> str:
        raise AssertionError("this test must not ask the Hub")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    monkeypatch.setattr("rela_zoo.remote._client._sleep", lambda seconds: None)
    return folder


@pytest.fixture
def make_spec():
    """An entry of a local prior; keywords change it."""

    def _make(**change: Any) -> PriorSpec:
        fields: dict[str, Any] = {
            "id": "mine",
            "title": "A prior of mine",
            "source": "local",
            "architecture": "resnet18",
            "dim": 512,
            "file": "model.safetensors",
            "licence": "mit",
            "preprocessing": {"input_size": 32, "resize": 32, "interpolation": "bilinear", "mean": 0.5, "std": 0.25},
        }
        return PriorSpec(**{**fields, **change})

    return _make


@pytest.fixture
def supply(home: Path):
    """Put tensors where the user puts the weights of an entry, and return the path."""

    def _supply(spec: PriorSpec, state: dict[str, torch.Tensor]) -> Path:
        assert spec.file is not None
        path = home / "weights" / spec.id / spec.file
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({key: value.contiguous() for key, value in state.items()}, path)
        return path

    return _supply


@pytest.fixture
def image() -> Image.Image:
    """A small image with structure in every channel."""
    ramp = torch.linspace(0, 255, 40 * 50 * 3).reshape(40, 50, 3).to(torch.uint8)
    return Image.fromarray(ramp.numpy())
