"""Every test of this room has a registry of its own and knows nothing of the machine's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("RELA_ZOO_HOME", str(folder))
    return folder


@pytest.fixture
def entry() -> dict[str, Any]:
    """A valid entry, to be spoilt."""
    return {
        "id": "my-prior",
        "title": "A prior of mine",
        "source": "hub",
        "architecture": "resnet18",
        "dim": 512,
        "repo": "me/my-prior",
        "revision": "0123456789abcdef" * 2 + "01234567",
        "file": "model.safetensors",
        "sha256": "ab" * 32,
        "pin": "confirmed",
        "licence": "mit",
        "preprocessing": {"input_size": 32, "resize": 36, "interpolation": "bicubic", "mean": 0.5, "std": 0.25},
    }


@pytest.fixture
def write(home: Path):
    """Write an entry (or raw text) to a folder, by default the user's registry, and return its path."""

    def _write(data: dict[str, Any] | str, name: str | None = None, folder: Path | None = None) -> Path:
        folder = folder or home / "registry"
        folder.mkdir(parents=True, exist_ok=True)
        text = data if isinstance(data, str) else yaml.safe_dump(data)
        path = folder / (name or f"{data['id']}.yaml")  # type: ignore[index]
        path.write_text(text, encoding="utf-8")
        return path

    return _write
