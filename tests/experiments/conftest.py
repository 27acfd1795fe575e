"""The experiments are scripts, not part of the package: their folder is put on the path here."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

# A run of seconds, in the terms of the product's configuration.
TINY: dict[str, Any] = {
    "config": "byol",
    "backbone.name": "vit_tiny",
    "+backbone.kwargs": {"img_size": 32, "patch_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 2},
    "data.dataset": "custom",
    "data.cache": "device",
    "data.views_on": "device",
    "max_epochs": 1,
    "optimizer.batch_size": 8,
    "method_kwargs.proj_hidden_dim": 16,
    "method_kwargs.proj_output_dim": 8,
}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny() -> dict[str, Any]:
    return dict(TINY)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small train.parquet and test.parquet of two kinds of noise, in the layout of uoft-cs/cifar10.

    Sorted by class, as the file at hand is.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for name, count in (("train", 80), ("test", 24)):
        labels = np.arange(count) * 2 // count
        encoded = []
        for i, label in enumerate(labels):
            pixels = generator.integers(0, 100, (32, 32, 3)) + 120 * label
            file = io.BytesIO()
            Image.fromarray(pixels.astype(np.uint8)).save(file, "png")
            encoded.append({"bytes": file.getvalue(), "path": f"{label}/{i:04d}.png"})
        pq.write_table(pa.table({"img": encoded, "label": labels}), folder / f"{name}.parquet")
    return folder
