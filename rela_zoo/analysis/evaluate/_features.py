"""Features of a whole data set, and what is asked of features and labels before anything is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from torch import nn

Array = Any


def _features(x: Array) -> np.ndarray:
    x = x.detach().cpu().numpy() if hasattr(x, "detach") else np.asarray(x)
    if x.ndim != 2 or not np.issubdtype(x.dtype, np.number):
        raise ValueError(f"expected features (N, D), got an array of shape {x.shape} and type {x.dtype}")
    if not np.isfinite(x).all():
        raise ValueError("the features contain NaN or infinite values; the network diverged, or its input is damaged")
    return x.astype(np.float32, copy=False)


def _labels(y: Array, count: int) -> np.ndarray:
    y = y.detach().cpu().numpy() if hasattr(y, "detach") else np.asarray(y)
    if y.shape != (count,):
        raise ValueError(f"expected {count} labels, one a row of the features, got shape {y.shape}")
    return y.astype(np.int64, copy=False)


def checked(train_x: Array, train_y: Array, test_x: Array, test_y: Array) -> tuple[np.ndarray, ...]:
    a, b = _features(train_x), _features(test_x)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"training features have {a.shape[1]} dimensions, test features {b.shape[1]}")
    if not len(a) or not len(b):
        raise ValueError("expected at least one training and one test sample")
    return a, _labels(train_y, len(a)), b, _labels(test_y, len(b))


def extract_features(
    backbone: nn.Module,
    data: Any,
    *,
    batch_size: int = 256,
    device: str | None = None,
    num_workers: int = 0,
    progress: bool | Literal["always"] = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Features of a whole data set, in its order.

    Args:
        backbone: (B, 3, H, W) → (B, D); put back into the mode and onto the device it came in.
        data: a DataLoader, or a data set for one. Items are (image, target) or (index, image, target).
        batch_size: of the loader made for a data set.
        device: where to compute; the backbone's own by default.
        num_workers: of the loader made for a data set.
        progress: show how far it is, as `rela_zoo._io.progress` has it.

    Returns:
        Features (N, D) float32 and targets (N,) int64.
    """
    import torch
    from torch.utils.data import DataLoader

    from rela_zoo._io.progress import Progress

    if not isinstance(data, DataLoader):
        # A generator of its own: a loader draws a number from the global one even where nothing is shuffled.
        data = DataLoader(data, batch_size=batch_size, num_workers=num_workers, generator=torch.Generator())
    parameter = next(backbone.parameters(), None)
    home = torch.device("cpu") if parameter is None else parameter.device
    target_device = torch.device(device) if device is not None else home
    training = {name: module.training for name, module in backbone.named_modules()}
    features, targets = [], []
    backbone.eval().to(target_device)
    try:
        total = len(data.dataset) if progress else 0
        with torch.inference_mode(), Progress("features", total, unit="images", show=progress) as bar:
            for *_, images, labels in data:
                features.append(backbone(images.to(target_device)).float().cpu())
                targets.append(labels)
                bar.advance(len(labels))
    finally:
        backbone.to(home)
        for name, module in backbone.named_modules():
            module.training = training[name]
    return torch.cat(features).numpy(), torch.cat(targets).numpy().astype(np.int64)


def standard(train_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and factor (D,) float64 that standardise features (N, D); the factor of a constant dimension is 0."""
    mean, std = train_x.mean(axis=0, dtype=np.float64), train_x.std(axis=0, dtype=np.float64)
    # Rounding leaves a constant dimension a tiny deviation, by which a shifted test set must not be divided.
    return mean, np.where(std > 1e-6 * np.maximum(np.abs(mean), 1e-6), 1.0 / np.where(std > 0, std, 1.0), 0.0)


def apply_standard(x: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Features (N, D) shifted and scaled, float32."""
    return ((x - mean) * scale).astype(np.float32)


def standardise(train_x: np.ndarray, test_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sets shifted and scaled by the training set's mean and standard deviation; constant dimensions become 0."""
    mean, scale = standard(train_x)
    return apply_standard(train_x, mean, scale), apply_standard(test_x, mean, scale)
