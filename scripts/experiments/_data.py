"""CIFAR-10 as resident tensors: decoded once, cached, and a fixed choice of images."""

from __future__ import annotations

import io
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rela_zoo._io.digest import file_sha256

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
_CHOICE_SEED = 0  # of the images of a smaller experiment: the same for all seeds of training


@dataclass(frozen=True)
class Images:
    """Images (N, 3, H, W) uint8 and labels (N,) int64 on one device, with a digest of where they came from."""

    pixels: Tensor
    labels: Tensor
    digest: str

    def __len__(self) -> int:
        return len(self.pixels)


def read_images(path: Path, cache: Path, count: int | None, device: torch.device) -> Images:
    """Decode a parquet file in the layout of `uoft-cs/cifar10` (img: {bytes, path}, label), or take it from the cache.

    Args:
        path: of the file.
        cache: folder for decoded pixels, named by the file's digest.
        count: images to keep, drawn once by a fixed seed and kept in the file's order; None or too many keeps all.
        device: where the tensors will live.

    Raises:
        FileNotFoundError: with what was expected.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"expected CIFAR-10 in parquet form at {path}, found no such file; point --data at the folder that holds "
            "train.parquet and test.parquet (in the layout of the Hub's uoft-cs/cifar10)"
        )
    digest = file_sha256(path)
    files = [cache / f"{digest[:16]}-{what}.npy" for what in ("pixels", "labels")]
    if not all(file.exists() for file in files):
        cache.mkdir(parents=True, exist_ok=True)
        for file, array in zip(files, _decode(path), strict=True):
            _save(file, array)
    pixels, labels = (np.load(file, mmap_mode="r", allow_pickle=False) for file in files)
    chosen = choose(len(labels), count)
    return Images(
        torch.from_numpy(pixels[chosen]).to(device),
        torch.from_numpy(labels[chosen]).to(device),
        f"{digest}:{len(chosen)}",
    )


def choose(total: int, count: int | None) -> np.ndarray:
    """Positions of the images kept: (min(count, total),) int64, rising; the same for every run."""
    if count is None or count >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(_CHOICE_SEED).permutation(total)[:count])


def _decode(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import pyarrow.parquet as pq
    from PIL import Image

    table = pq.read_table(path, columns=["img", "label"])
    encoded = table.column("img").combine_chunks().field("bytes").to_pylist()
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in encoded])
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)), table.column("label").to_numpy().astype(np.int64)


def _save(path: Path, array: np.ndarray) -> None:
    # Under another name first: several jobs may start on an empty cache.
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "wb") as file:
        np.save(file, array)
    os.replace(name, path)


def normalise(pixels: Tensor, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> Tensor:
    """uint8 (B, 3, H, W) → float32, channels last, the channels' mean and standard deviation removed."""
    shape = (1, 3, 1, 1)
    centre, scale = (torch.tensor(values, device=pixels.device).view(shape) for values in (mean, std))
    return ((pixels.float() / 255 - centre) / scale).contiguous(memory_format=torch.channels_last)
