"""The experiments are scripts, not part of the package: their folder is put on the path here."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small train.parquet and test.parquet of two kinds of noise, in the layout of uoft-cs/cifar10."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for name, count in (("train", 80), ("test", 24)):
        labels = np.arange(count) % 2
        encoded = []
        for label in labels:
            pixels = generator.integers(0, 100, (32, 32, 3)) + 120 * label
            file = io.BytesIO()
            Image.fromarray(pixels.astype(np.uint8)).save(file, "png")
            encoded.append({"bytes": file.getvalue(), "path": None})
        pq.write_table(pa.table({"img": encoded, "label": labels}), folder / f"{name}.parquet")
    return folder
